package image

import (
	"net/http"
	"time"

	"github.com/amphora-go/amphora/internal/registry"
	"github.com/amphora-go/amphora/internal/store"
)

// ServeOptions tune Serve. The zero value serves all images of the store to
// everybody, and lets everybody push and delete: that is for loopback.
type ServeOptions struct {
	// Host is the registry that the names of served images begin with. With
	// "registry.example:5000" a client's push of team/app:1 is
	// registry.example:5000/team/app:1 in the store, and only such names are
	// served; with "docker.io" this is a registry of images like alpine or
	// team/app.
	//
	// Empty: repositories are read as ParseRef reads them. A push of team/app:1
	// is team/app:1 here, which is short for docker.io/team/app:1, and the
	// image ghcr.io/team/app:1 of the store is pulled as
	// HOST/ghcr.io/team/app:1. Whoever may push can then give any name to an
	// image, that of a base image of yours, too: set Host for those you would
	// not let into the store itself.
	Host string
	// ReadOnly refuses pushes and deletions.
	ReadOnly bool
	// PullThrough makes this a cache of the registries that the names say, or
	// of Host: what is not here is fetched, by the Options of the store, and
	// kept, if it fulfils the rules of trust of a pull. Tags that came from there
	// are asked about each time. When it does not answer, what is here is served.
	// Tags that were pushed to this registry are not asked about.
	PullThrough bool

	// Login checks the name and password of a client. They come in the clear
	// unless the server speaks TLS. Nil: nobody has to log in.
	Login func(user, password string) bool
	// Allow decides what a client may do. Nil: everything, once it has logged
	// in if there is a Login. With it clients that did not log in are not
	// turned away but asked about with an empty User.
	Allow func(r *http.Request, a Access) bool

	// MaxManifest is the size of the largest manifest in bytes. 0: 4 MiB, which
	// the specification asks for; at most 8 MiB.
	MaxManifest int64
	// MaxBlob is the size of the largest blob in bytes. 0: what fits on disk.
	MaxBlob int64
	// MaxUploads is how many uploads may be open at a time, in all processes
	// that serve the store. 0: 1000.
	MaxUploads int
	// UploadIdle is how long nobody need go on with an upload before it is
	// dropped. 0: 24 hours, which is also the most.
	UploadIdle time.Duration
	// StallTimeout is how long a client may send or take nothing. 0: 1 minute.
	StallTimeout time.Duration
}

// Access is what a client wants to do.
type Access struct {
	User       string // "" when the client did not log in
	Repository string // as the client calls it: "team/app"; "" for List
	Action     string // "pull", "push" or "delete", or "list" for the catalog of all repositories
}

// Serve makes a store a registry, by the OCI distribution specification 1.1:
// pull, with ranges; push, in pieces that any process takes, with mounts across
// repositories; tags, referrers and Docker's catalog; deletion. There is no
// state besides the store's, so any number of processes may serve one, and
// images that are pulled, loaded, built or imported there are there for
// clients at once.
//
// What clients push has a name in the store as soon as its manifest is there:
// List, Get and containers see it under the tag, see ServeOptions.Host. A
// manifest also keeps its digest as a name, name@sha256:..., until somebody
// deletes that: as in every registry a tag that moves on leaves behind what it
// named. Manifests listed by an index come and go with it. Artifacts, such as
// signatures, Helm charts or SBOMs, are stored and served, and Get and List
// leave them out.
//
// An image whose compressed layers were dropped to save space is served from
// its unpacked ones. Its digest may then be another, since the bytes of the
// compressor are; it is the same each time. Of what clients pushed
// no layers are dropped.
//
// Blobs that are uploaded stay for 24 hours without a manifest, whatever is
// collected and whichever process ends. After their manifest came they stay
// for an hour, also when that is deleted: another client may have been told
// that it need not send them. Only sha256 is accepted.
//
// The handler must be at the root of its host, which is where clients look for
// /v2/. It holds nothing that would have to be closed. Nil options are valid.
func Serve(s *Store, opts *ServeOptions) http.Handler {
	o := ServeOptions{}
	if opts != nil {
		o = *opts
	}
	in := &serving{s: s, host: o.Host}
	r := registry.Options{Images: in, ReadOnly: o.ReadOnly, Login: o.Login, Known: o.Host != "" && !o.PullThrough, MaxManifest: o.MaxManifest, MaxBlob: o.MaxBlob,
		MaxUploads: o.MaxUploads, UploadIdle: o.UploadIdle, Stall: o.StallTimeout, Logger: s.log}
	if o.PullThrough {
		r.Upstream = in
	}
	if o.Allow != nil {
		r.Allow = func(req *http.Request, user, repository, action string) bool {
			return o.Allow(req, Access{User: user, Repository: repository, Action: action})
		}
	}
	if r.MaxManifest <= 0 {
		r.MaxManifest = 4 << 20
	}
	r.MaxManifest = min(r.MaxManifest, store.MaxMetadata)
	if r.MaxUploads <= 0 {
		r.MaxUploads = 1000
	}
	if r.UploadIdle <= 0 || r.UploadIdle > store.IdleAge {
		r.UploadIdle = store.IdleAge
	}
	if r.Stall <= 0 {
		r.Stall = time.Minute
	}
	return registry.New(s.s, r)
}
