package build

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/build/cache"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/build/run"
	"github.com/amphora-go/amphora/internal/build/solve"
	fetch "github.com/amphora-go/amphora/internal/build/source"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/amphora-go/amphora/internal/store"
)

// solver is the engine of one job: internal/build/solve, with the caller's
// trees and the store's images as its sources.
type solver struct {
	job    *job
	root   *record.Root
	log    *slog.Logger
	images *image.Store
	store  *store.Store
	cache  *cache.Cache
	runner *run.Runner
	build  *solve.Build
	fetch  *fetch.Fetcher

	elsewhere *remotes

	mu    sync.Mutex             // guards bases
	bases map[string]*image.Base // by reference with digest, and platform
}

// solve gives a job its engine.
func (b *Builder) solve(ctx context.Context, j *job) (done func() error, err error) {
	st := b.images.Underlying()
	root, err := record.OpenRoot(ctx, st.Root(), st.State())
	if err != nil {
		return nil, err
	}
	s := &solver{job: j, root: root, log: cmp.Or(b.opts.Logger, slog.New(slog.DiscardHandler)), images: b.images, store: st, bases: map[string]*image.Base{}}
	s.cache = cache.Open(s.store)
	s.runner = run.New(root, &run.Options{Helper: b.opts.Helper, CgroupParent: b.opts.CgroupParent})
	s.fetch = s.fetcher()
	s.elsewhere = s.remotes()
	s.build, err = solve.New(ctx, &solve.Options{Store: s.store, Cache: s.cache, Runner: s.runner, Sources: s, Remote: s.elsewhere, Parallel: b.opts.Parallel,
		Secrets: j.session.Secret, Agent: j.session.Agent, Events: s.event, Logger: b.opts.Logger})
	if err != nil {
		s.elsewhere.Close()
		return nil, errors.Join(err, s.runner.Close())
	}
	j.engine, j.export, j.session.work = s, s.export, s.build.Lease().Dir
	return s.close, nil
}

func (s *solver) close() error {
	err := errors.Join(s.build.Close(), s.runner.Close())
	s.elsewhere.Close()
	for _, b := range s.bases {
		b.Close()
	}
	// What no build needs any more for the room that the Root's programs agreed on.
	ctx, stop := context.WithTimeout(context.Background(), capTimeout)
	defer stop()
	settings, cerr := s.root.Settings()
	if cerr == nil {
		_, cerr = s.cache.Cap(ctx, settings.BuildCache)
	}
	if cerr != nil {
		s.log.Warn("build: the cache is not within its limit", "err", cerr)
	}
	return err
}

// capTimeout bounds the keeping of the cache after a build; the next goes on.
const capTimeout = time.Minute

// event passes on what the solver tells.
func (s *solver) event(e solve.Event) {
	kind := map[string]EventKind{solve.Started: StepStarted, solve.Cached: StepCached, solve.Done: StepDone, solve.Failed: StepFailed, solve.Log: StepLog}[e.State]
	s.job.tell(Event{Time: e.Time, Kind: kind, Step: newStep(e.Vertex), Stderr: e.Stderr, Data: e.Data, Err: e.Err})
}

// Evaluate makes a tree.
func (s *solver) Evaluate(ctx context.Context, tree op.Input) error {
	_, err := s.build.Solve(ctx, tree)
	return located(err)
}

// located makes of a failed step an error with its place in the Dockerfile.
func located(err error) error {
	var failed *solve.Error
	if errors.As(err, &failed) {
		return &stepError{failed.Vertex, failed.Err}
	}
	return err
}

// look opens a file of a tree.
func (s *solver) look(ctx context.Context, tree op.Input, path string) (*os.File, error) {
	d, err := s.open(ctx, tree)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Open(path)
}

func (s *solver) open(ctx context.Context, tree op.Input) (*rootdir.Dir, error) {
	r, err := s.build.Solve(ctx, tree)
	if err != nil {
		return nil, located(err)
	}
	return r.Open(ctx)
}

// ReadFile reads from a tree, Stat and ReadDir look at it.
func (s *solver) ReadFile(ctx context.Context, tree op.Input, path string, limit int64) ([]byte, error) {
	f, err := s.look(ctx, tree, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if limit <= 0 {
		return io.ReadAll(f)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

func (s *solver) Stat(ctx context.Context, tree op.Input, path string) (fs.FileInfo, error) {
	f, err := s.look(ctx, tree, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

func (s *solver) ReadDir(ctx context.Context, tree op.Input, path string) ([]fs.DirEntry, error) {
	f, err := s.look(ctx, tree, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// ImageConfig finds out what an image is, and keeps its configuration. Its
// layers are fetched when somebody looks into them.
func (s *solver) ImageConfig(ctx context.Context, img *op.Image, p ocispec.Platform) (string, digest.Digest, []byte, error) {
	o := &image.BaseOptions{Platform: p, Always: img.Mode == "pull", Never: img.Mode == "local" || s.job.request.Pull == PullNever}
	known, seen, err := s.cache.Get(refKey(img.Ref, p))
	if err != nil {
		return "", "", nil, err
	}
	if seen {
		o.Known = digest.Digest(known.Image)
	}
	b, err := s.images.Base(ctx, s.build.Lease(), img.Ref, o)
	if err != nil {
		return "", "", nil, err
	}
	ref, d, config := s.keep(b, p), b.Manifest(), b.Config()
	if !seen || o.Known != d {
		// What the name stood for is found again without a registry.
		now := time.Now()
		err = s.cache.Put(&cache.Record{ID: refKey(img.Ref, p), Kind: img.Kind(), Description: "image " + img.Ref, Image: string(d), Ref: ref, Created: now, Used: now})
	}
	return ref, d, config, err
}

// refKey is the record of an image by its name.
func refKey(ref string, p ocispec.Platform) string {
	return digest.FromString("reference " + ref + " " + platformText(p)).Encoded()
}

// LayoutConfig is ImageConfig for an image that the caller gave.
func (s *solver) LayoutConfig(ctx context.Context, img *op.Layout, p ocispec.Platform) (string, digest.Digest, []byte, error) {
	_, d, _ := strings.Cut(img.Ref, "@")
	if img.Name != storeLayout {
		dir, ok := s.job.session.Layout(img.Name)
		if !ok {
			return "", "", nil, fault.Invalid("the request has no layout %q", img.Name)
		}
		if err := s.images.Adopt(ctx, s.build.Lease(), dir, digest.Digest(d)); err != nil {
			return "", "", nil, err
		}
	}
	b, err := s.images.Base(ctx, s.build.Lease(), d, &image.BaseOptions{Platform: p, Never: true, Known: digest.Digest(d)})
	if err != nil {
		return "", "", nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bases[baseKey(img.Ref, p)] = b
	return img.Ref, b.Manifest(), b.Config(), nil
}

// keep remembers an image that the build may need the layers of.
func (s *solver) keep(b *image.Base, p ocispec.Platform) (ref string) {
	ref = b.Ref()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := baseKey(ref, p)
	if s.bases[key] != nil {
		b.Close()
	} else {
		s.bases[key] = b
	}
	return ref
}

func baseKey(ref string, p ocispec.Platform) string { return ref + " " + platformText(p) }

// GitHead and HTTPHead ask what is behind a reference.
func (s *solver) GitHead(ctx context.Context, g *op.Git, object bool) (*gitHead, error) {
	c, err := s.fetch.Git(ctx, g)
	if err != nil {
		return nil, err
	}
	h := &gitHead{Commit: c.ID, Ref: c.Ref}
	if object {
		h.Object, err = s.fetch.GitObject(ctx, g, c.ID)
	}
	return h, err
}

func (s *solver) HTTPHead(ctx context.Context, h *op.HTTP) (*httpHead, error) {
	f, err := s.fetch.HTTP(ctx, h)
	if err != nil {
		return nil, err
	}
	return &httpHead{Digest: f.Digest, Filename: f.Filename, Modified: f.Modified}, nil
}
