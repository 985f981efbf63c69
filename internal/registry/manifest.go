package registry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/store"
)

// getManifest serves a manifest as it was pushed or pulled, byte for byte,
// whatever types the client accepts: another form would have another digest.
func (q *request) getManifest(reference string) error {
	d, err := q.resolve(reference)
	if err != nil {
		return err
	}
	data, err := q.store.ReadBlob(d)
	if errors.Is(err, store.ErrMissing) {
		return errNoManifest
	}
	if err != nil {
		return err
	}
	doc, err := parse(data)
	if err != nil {
		return errNoManifest // a blob, asked for as a manifest
	}
	h := q.w.Header()
	h.Set("Content-Type", doc.MediaType)
	h.Set("Docker-Content-Digest", string(d))
	h.Set("ETag", `"`+string(d)+`"`)
	if doc.subject != "" {
		h.Set("OCI-Subject", string(doc.subject))
	}
	http.ServeContent(q.w, q.r, "", time.Time{}, bytes.NewReader(data))
	return nil
}

// resolve finds the manifest that a tag or digest stands for.
func (q *request) resolve(reference string) (digest.Digest, error) {
	if strings.Contains(reference, ":") {
		d := digest.Digest(reference)
		if err := store.CheckDigest(d); err != nil {
			return "", errDigest
		}
		return d, q.resolveDigest(d)
	}
	if !tagRE().MatchString(reference) {
		return "", errNoManifest.because("the tag is malformed")
	}
	if err := q.refresh(reference); err != nil {
		return "", err
	}
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return "", err
	}
	n := v.tags[reference]
	switch {
	case n == nil && len(v.manifests) == 0:
		return "", errNoName
	case n == nil:
		return "", errNoManifest
	}
	return q.whole(v, n)
}

func (q *request) resolveDigest(d digest.Digest) error {
	here := func(v *view) bool { return v.manifests[d] != nil && v.manifests[d].document != nil }
	v, err := q.find(here)
	if err != nil || here(v) || q.store.Held(q.name, d) {
		return err
	}
	if q.opts.Upstream == nil || q.down() {
		return errNoManifest
	}
	return q.judge(q.opts.Upstream.Manifest(q.ctx, q.name, d, v.manifests[d] != nil))
}

// How long upstream has to say what a tag is before what is here is served,
// and how long it is not asked then.
const (
	freshTime = 10 * time.Second
	downTime  = 30 * time.Second
)

// refresh asks upstream what a tag is now. If it does not say, what is here is
// served.
func (q *request) refresh(tag string) error {
	if q.opts.Upstream == nil || q.down() {
		return nil
	}
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return err
	}
	have := v.tags[tag]
	if have != nil && !have.Pulled {
		return nil // made or pushed here
	}
	ctx := q.ctx
	if have != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freshTime)
		defer cancel()
	}
	err = q.judge(q.opts.Upstream.Tag(ctx, q.name, tag))
	if err != nil && have != nil && q.ctx.Err() == nil {
		q.opts.Logger.Warn("registry: serving what is here", "image", have.Name, "err", err)
		return nil
	}
	return err
}

// judge learns from an answer of upstream whether to ask it soon again.
func (q *request) judge(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || store.IsTrouble(err) || q.ctx.Err() != nil {
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return errNoManifest.because("it may not be fetched: the registry that this one asks, or a rule of trust here, denies it")
	}
	q.mu.Lock()
	q.downUntil = time.Now().Add(downTime)
	q.mu.Unlock()
	q.opts.Logger.Warn("registry: upstream failed", "repository", q.name, "err", err)
	return errUpstreamTrouble
}

func (g *Registry) down() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.downUntil)
}

// whole sees that what a tag stands for can be served. Of an image that lost
// its compressed blobs to save space they are made anew; then the digest may
// be another, and the same each time.
func (q *request) whole(v *view, n *store.Name) (digest.Digest, error) {
	if q.complete(v, n.Target) || q.opts.Upstream != nil && n.Pulled {
		return n.Target, nil
	}
	q.mu.Lock()
	again := q.remade[n.Target]
	q.mu.Unlock()
	if again != "" && q.store.Held(q.name, again) && q.wholeToo(again) {
		return again, nil
	}
	l, err := q.store.Lease(q.ctx)
	if err != nil {
		return "", err
	}
	defer l.Close()
	top, parts, err := q.opts.Images.Remake(q.ctx, l, n)
	if errors.Is(err, store.ErrMissing) {
		return n.Target, nil // what is there of it can be had
	}
	if err != nil {
		return "", err
	}
	if err := q.store.Hold(q.ctx, q.name, parts...); err != nil {
		return "", err
	}
	q.mu.Lock()
	q.remade[n.Target] = top
	q.mu.Unlock()
	return top, nil
}

// complete reports whether all blobs of those manifests are here that are.
func (q *request) complete(v *view, d digest.Digest) bool {
	m := v.manifests[d]
	if m == nil || m.document == nil {
		return false
	}
	for _, below := range append(v.below(m.document), d) {
		if inner := v.manifests[below]; inner != nil && inner.document != nil && !q.hasBlobs(inner.document) {
			return false
		}
	}
	return true
}

func (q *request) hasBlobs(d *document) bool {
	for _, b := range d.blobs {
		if _, ok := q.store.HasBlob(b.Digest); !ok {
			return false
		}
	}
	return true
}

// wholeToo is complete for a document without a name.
func (q *request) wholeToo(d digest.Digest) bool {
	doc := q.document(d)
	if doc == nil || !q.hasBlobs(doc) {
		return false
	}
	for _, e := range doc.manifests {
		if inner := q.document(e.Digest); inner != nil && !q.hasBlobs(inner) {
			return false
		}
	}
	return true
}

// deleteManifest takes a tag away, or a manifest with all its tags.
func (q *request) deleteManifest(reference string) error {
	byDigest := strings.Contains(reference, ":")
	d := digest.Digest(reference)
	if byDigest && store.CheckDigest(d) != nil {
		return errDigest
	}
	err := q.store.UpdateNames(q.ctx, func(tx *store.NamesTx) error {
		v, err := q.view(q.ctx, q.name)
		if err != nil {
			return err
		}
		var names []*store.Name
		if byDigest {
			if m := v.manifests[d]; m != nil && m.within != "" {
				return errInUse.because("index " + string(m.within) + " lists it: delete that first")
			}
		}
		for _, n := range tx.All() {
			repo, ref, ok := split(n.Name)
			if ok && repo == q.name && (ref == reference || byDigest && n.Target == d) {
				names = append(names, n)
			}
		}
		if len(names) == 0 {
			return errNoManifest
		}
		for _, n := range names {
			if err := tx.Take(q.ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.tidy()
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}

// tidy frees what nothing needs any more. If somebody does so already, the
// next deletion finds the rest.
func (q *request) tidy() {
	if !q.collect.TryLock() {
		return
	}
	defer q.collect.Unlock()
	if _, err := q.store.Collect(q.ctx, &store.CollectOptions{PartialAge: store.IdleAge}); err != nil && q.ctx.Err() == nil {
		q.opts.Logger.Warn("registry: deleted data not collected yet", "err", err)
	}
}
