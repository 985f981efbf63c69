package registry

import (
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// putManifest stores a manifest under its digest and its tags.
func (q *request) putManifest(reference string) error {
	data, err := q.manifestBody()
	if err != nil {
		return err
	}
	doc, err := parse(data)
	if err != nil {
		return err
	}
	if err := q.typed(data, doc); err != nil {
		return err
	}
	tags, err := q.pushedTags(reference, doc.Digest)
	if err != nil {
		return err
	}
	// Leased before it is asked what is here: that stays until the names are
	// written.
	l, err := q.store.Lease(q.ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := q.listed(l, doc); err != nil {
		return err
	}
	if _, err := q.store.PutBlob(q.ctx, l, data); err != nil {
		return err
	}
	step.At("registry.stored")
	if err := q.giveNames(doc, data, tags); err != nil {
		return err
	}
	step.At("registry.named")
	for _, b := range doc.blobs {
		if err := q.store.HandOver(q.name, b.Digest); err != nil {
			return err
		}
	}
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/manifests/"+string(doc.Digest))
	h.Set("Docker-Content-Digest", string(doc.Digest))
	if doc.subject != "" {
		h.Set("OCI-Subject", string(doc.subject))
	}
	for _, t := range tags {
		h.Add("OCI-Tag", t)
	}
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

func (q *request) manifestBody() ([]byte, error) {
	if q.r.ContentLength > q.opts.MaxManifest {
		return nil, errManifestLarge
	}
	data, err := io.ReadAll(io.LimitReader(q.r.Body, q.opts.MaxManifest+1))
	if err != nil {
		return nil, errManifest.because("the manifest did not arrive in whole")
	}
	if int64(len(data)) > q.opts.MaxManifest {
		return nil, errManifestLarge
	}
	return data, nil
}

// typed sees that the type announced is the manifest's own: clients are told
// it when they pull, and parse by it.
func (q *request) typed(data []byte, doc *document) error {
	said, _, err := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	if err != nil || said == "application/json" || said == "application/octet-stream" {
		return nil // nothing was announced
	}
	if said != doc.MediaType {
		return errManifest.because("the manifest's type is " + doc.MediaType + ", not " + said)
	}
	return nil
}

// pushedTags are those that the manifest gets. A push by digest may name some,
// as the specification's next version has it.
func (q *request) pushedTags(reference string, d digest.Digest) ([]string, error) {
	var tags []string
	if strings.Contains(reference, ":") {
		if store.CheckDigest(digest.Digest(reference)) != nil || reference != string(d) {
			return nil, errDigest
		}
		tags = q.r.URL.Query()["tag"]
	} else {
		tags = []string{reference}
	}
	for _, t := range tags {
		if !tagRE().MatchString(t) {
			return nil, errManifest.because("the tag is malformed: want up to 128 letters, digits, dots, dashes and underscores")
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// listed sees that the repository has all that the manifest lists, and leases
// it.
func (q *request) listed(l *store.Lease, doc *document) error {
	digests := []digest.Digest{doc.Digest}
	for _, e := range slices.Concat(doc.blobs, doc.manifests) {
		digests = append(digests, e.Digest)
	}
	if err := l.Add(q.ctx, digests...); err != nil {
		return err
	}
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return err
	}
	for _, b := range doc.blobs {
		size := int64(-1)
		if have := v.blobs[b.Digest]; have != nil {
			size = have.Size
		} else if q.store.Held(q.name, b.Digest) {
			size = q.sizeOf(b)
		}
		switch {
		case size < 0:
			return errManifestLacks.with(map[string]string{"digest": string(b.Digest)})
		case size != b.Size:
			return errManifest.because("blob " + string(b.Digest) + " has another size than the manifest says")
		}
	}
	for _, e := range doc.manifests {
		if v.manifests[e.Digest] == nil {
			return errManifestLacks.with(map[string]string{"digest": string(e.Digest)})
		}
		if v.height(e.Digest, 0) >= maxDepth {
			return errManifest.because("indexes are nested too deep")
		}
	}
	return nil
}

func (q *request) sizeOf(b ocispec.Descriptor) int64 {
	if size, ok := q.store.HasBlob(b.Digest); ok {
		return size
	}
	return -1
}

// height is how many levels of manifests lie below one.
func (v *view) height(d digest.Digest, depth int) int {
	m := v.manifests[d]
	if m == nil || m.document == nil || depth > maxDepth {
		return 0
	}
	height := 0
	for _, e := range m.manifests {
		height = max(height, 1+v.height(e.Digest, depth+1))
	}
	return height
}

// giveNames makes the manifest a part of the repository: by its digest first,
// so that it stays when the tag moves on, then by its tags. Manifests that it
// lists need no names of their own any more: they come and go with it.
func (q *request) giveNames(doc *document, data []byte, tags []string) error {
	n := store.Name{Target: doc.Digest, MediaType: doc.MediaType, Pulled: q.opts.Known, Pushed: true}
	q.opts.Images.Describe(&n, data)
	return q.store.UpdateNames(q.ctx, func(tx *store.NamesTx) error {
		v, err := q.view(q.ctx, q.name)
		if err != nil {
			return err
		}
		own := q.name + "@" + string(doc.Digest)
		if m := v.manifests[doc.Digest]; len(tags) > 0 || m == nil || m.within == "" || tx.Get(own) != nil {
			n.Name = own
			if err := tx.Give(q.ctx, "push", n); err != nil {
				return err
			}
			step.At("registry.kept")
		}
		for _, t := range tags {
			n.Name = q.name + ":" + t
			if err := tx.Give(q.ctx, "push", n); err != nil {
				return err
			}
		}
		for _, d := range v.below(doc) {
			if child := tx.Get(q.name + "@" + string(d)); child != nil {
				if err := tx.Take(q.ctx, child); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
