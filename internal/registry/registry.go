// Package registry speaks the OCI distribution specification 1.1 over a store:
// it is the server's half of what package image does as a client.
//
// A repository is what the names of the store say: "name:tag" is a tag and
// "name@digest" a manifest without one. What these list is served by digest,
// too, and so is a blob that was uploaded to the repository and not named yet,
// which the store holds for it (store.Hold). There is no other state, so any
// number of processes may serve one store, and what one of them accepted all
// have.
//
//	registry.go   options, the request's way to its method, who may do what
//	route.go      paths: which repository, which kind of thing
//	view.go       what a repository has, read from the names of the store
//	document.go   manifests and indexes, checked
//	manifest.go   GET, HEAD, DELETE of manifests;  put.go  PUT
//	blob.go       GET, HEAD, DELETE of blobs;      upload.go  their uploads
//	list.go       tags, repositories, referrers
//	errors.go     the specification's error codes
//	patience.go   deadlines for clients that stall
package registry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// Images is what the registry asks of the package that knows references,
// platforms and layers.
type Images interface {
	// Name is what a repository is called in the store, without tag and digest:
	// "team/app" may be "docker.io/team/app". Paths are checked already.
	Name(repository string) (string, error)
	// Repository is the reverse; false when a name is not served.
	Repository(name string) (string, bool)
	// Describe fills in Manifest, ImageID, Platform and Artifact of n, whose
	// Target has that content. What it lists is in the store.
	Describe(n *store.Name, content []byte)
	// Remake makes blobs anew that an image lacks, out of its unpacked layers.
	// It returns what is to be served instead of n.Target, and all that this
	// consists of. It is leased.
	Remake(ctx context.Context, l *store.Lease, n *store.Name) (digest.Digest, []digest.Digest, error)
}

// Upstream is a registry that has more.
type Upstream interface {
	// Tag makes name, a canonical name, what upstream says now. The error Is
	// fs.ErrNotExist when upstream has no such tag.
	Tag(ctx context.Context, repository, tag string) error
	// Manifest gets a manifest by digest, and gives it a name unless a manifest
	// of the repository lists it.
	Manifest(ctx context.Context, repository string, d digest.Digest, listed bool) error
	// Blob gets a blob, which can be read while it arrives.
	Blob(ctx context.Context, repository string, blob ocispec.Descriptor) (io.ReadCloser, error)
}

// The actions that Options.Allow is asked about.
const (
	Pull   = "pull"
	Push   = "push"
	Delete = "delete"
	List   = "list" // all repositories
)

// Options tune a registry.
type Options struct {
	Images   Images
	Upstream Upstream // may be nil
	ReadOnly bool
	// Login checks a user's password. Nil: nobody needs to log in.
	Login func(user, password string) bool
	// Allow decides about an action. user is "" for who did not log in. Nil:
	// whoever may be here may do everything.
	Allow func(r *http.Request, user, repository, action string) bool
	// Known says that names that are pushed stand for what a registry has:
	// that is so when they are those of this registry, not of Upstream.
	Known bool

	MaxManifest int64
	MaxBlob     int64 // 0: no limit
	MaxUploads  int
	UploadIdle  time.Duration
	Stall       time.Duration

	Logger *slog.Logger
}

// Registry is the handler. It is safe for concurrent use.
type Registry struct {
	store *store.Store
	opts  Options

	mu        sync.Mutex                      // guards what follows
	seen      *snapshot                       // names as they were last read
	documents map[digest.Digest]*document     // parsed ones, see document
	cost      int64                           // bytes of them
	remade    map[digest.Digest]digest.Digest // what is served instead of an incomplete target
	downUntil time.Time                       // upstream did not answer: not asked before

	collect sync.Mutex // one collection at a time is enough
}

// New returns the registry of a store. All options but Upstream, Login and
// Allow must be set.
func New(s *store.Store, opts Options) *Registry {
	return &Registry{store: s, opts: opts, documents: map[digest.Digest]*document{}, remade: map[digest.Digest]digest.Digest{}}
}

// request is one request on its way.
type request struct {
	*Registry
	w    http.ResponseWriter
	r    *http.Request
	ctx  context.Context
	repo string // as the client calls it
	name string // as the store does
	user string
}

// ServeHTTP implements http.Handler.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := newPatient(w, r, g.opts.Stall)
	defer p.end()
	q := &request{Registry: g, w: p, r: r, ctx: r.Context()}
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := q.serve(); err != nil {
		q.fail(err)
	}
}

func (q *request) serve() error {
	rt, err := route(q.r.URL.Path)
	if err != nil {
		return err
	}
	if err := q.login(rt.kind == kindRoot); err != nil {
		return err
	}
	switch rt.kind {
	case kindRoot:
		if err := q.method(http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		return q.json(http.StatusOK, struct{}{})
	case kindCatalog:
		if err := q.method(http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		return q.catalog()
	}
	q.repo = rt.repo
	if q.name, err = q.opts.Images.Name(rt.repo); err != nil {
		return errName.because(err.Error())
	}
	if err := q.allow(rt); err != nil {
		return err
	}
	return q.dispatch(rt)
}

func (q *request) dispatch(rt *routed) error {
	switch m := q.r.Method; rt.kind {
	case kindManifest:
		switch m {
		case http.MethodGet, http.MethodHead:
			return q.getManifest(rt.what)
		case http.MethodPut:
			return q.putManifest(rt.what)
		case http.MethodDelete:
			return q.deleteManifest(rt.what)
		}
	case kindBlob:
		switch m {
		case http.MethodGet, http.MethodHead:
			return q.getBlob(digest.Digest(rt.what))
		case http.MethodDelete:
			return q.deleteBlob(digest.Digest(rt.what))
		}
	case kindUploads:
		if m == http.MethodPost {
			return q.beginUpload()
		}
	case kindUpload:
		switch m {
		case http.MethodGet, http.MethodHead:
			return q.uploadStatus(rt.what)
		case http.MethodPatch:
			return q.patchUpload(rt.what)
		case http.MethodPut:
			return q.endUpload(rt.what)
		case http.MethodDelete:
			return q.cancelUpload(rt.what)
		}
	default:
		if err := q.method(http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		if rt.kind == kindTags {
			return q.tags()
		}
		return q.referrers(digest.Digest(rt.what))
	}
	return errMethod.because("method " + q.r.Method + " has no meaning here")
}

func (q *request) method(allowed ...string) error {
	for _, m := range allowed {
		if q.r.Method == m {
			return nil
		}
	}
	return errMethod.because("method " + q.r.Method + " has no meaning here")
}

// login finds out who asks. The root of the API is where clients learn that
// there is something to log in to.
func (q *request) login(root bool) error {
	if q.opts.Login == nil {
		return nil
	}
	user, password, ok := q.r.BasicAuth()
	switch {
	case !ok && (root || q.opts.Allow == nil), ok && (user == "" || !q.opts.Login(user, password)):
		return q.challenge()
	}
	q.user = user
	return nil
}

func (q *request) challenge() error {
	q.w.Header().Set("WWW-Authenticate", `Basic realm="registry", charset="UTF-8"`)
	return errUnauthorized
}

func (q *request) allow(rt *routed) error {
	action := Pull
	switch {
	case q.r.Method == http.MethodDelete && rt.kind != kindUpload:
		action = Delete
	case q.r.Method != http.MethodGet && q.r.Method != http.MethodHead, rt.kind == kindUpload:
		action = Push
	}
	if q.opts.ReadOnly && action != Pull {
		return errReadOnly
	}
	if q.may(q.repo, action) {
		return nil
	}
	if q.user == "" && q.opts.Login != nil {
		return q.challenge()
	}
	return errDenied.because("you may not " + action + " here")
}

func (q *request) may(repository, action string) bool {
	return q.opts.Allow == nil || q.opts.Allow(q.r, q.user, repository, action)
}
