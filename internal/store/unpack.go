package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/step"
)

// UnpackOptions tune Unpack.
type UnpackOptions struct {
	// Open gives the compressed content of layer i. It may be called twice and
	// while the blob is still on its way, but it returns io.EOF only once the
	// content was verified. Nil: the stored blob.
	Open func(ctx context.Context, i int) (io.ReadCloser, error)
	// Progress is told the state of layer i, from several goroutines.
	Progress func(i int, p UnpackProgress)
	// MaxBytes bounds the content of each layer's files. 0: no bound.
	MaxBytes int64
	// Parallel is how many layers are unpacked at a time. 0: one for each
	// core, at least two, since one may be waiting for its download.
	Parallel int
}

// UnpackProgress is the state of one layer.
type UnpackProgress int

const (
	Unpacking UnpackProgress = iota
	Unpacked
	Existed // it had been unpacked before, or by another process meanwhile
)

// Unpack makes the trees of all layers of an image that are not there yet, and
// leases them. Layers are unpacked side by side, each once for all processes.
// The lease names the blobs already, unless Open does without them.
func (s *Store) Unpack(ctx context.Context, l *Lease, img *Image, opts *UnpackOptions) error {
	if opts == nil {
		opts = &UnpackOptions{}
	}
	if err := l.AddLayers(ctx, img.Chains()...); err != nil {
		return err
	}
	missing, err := s.MissingLayers(img.Chains())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := CanUnpack(); err != nil {
			return err
		}
	}
	u := &unpacker{s: s, lease: l, img: img, opts: opts}
	if u.opts.Open == nil {
		u.open = func(_ context.Context, i int) (io.ReadCloser, error) { return s.OpenBlob(img.Layers[i].Blob.Digest) }
	} else {
		u.open = opts.Open
	}
	n := opts.Parallel
	if n <= 0 {
		n = max(2, runtime.NumCPU())
	}
	u.slots = make(chan struct{}, n)
	if err := u.run(ctx); err != nil {
		return err
	}
	s.SyncLayers(img.Chains())
	return nil
}

type unpacker struct {
	s     *Store
	lease *Lease
	img   *Image
	opts  *UnpackOptions
	open  func(ctx context.Context, i int) (io.ReadCloser, error)
	slots chan struct{} // held while applying, never while waiting for a lock or a lower layer
}

func (u *unpacker) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	below := make(chan struct{})
	close(below)
	for i := range u.img.Layers {
		ready, wait := make(chan struct{}), below
		g.Go(func() error {
			if err := u.layer(ctx, i, wait); err != nil {
				if ctx.Err() != nil {
					return err
				}
				return fmt.Errorf("layer %d of %d, %s: %w", i+1, len(u.img.Layers), u.img.Layers[i].Blob.Digest, err)
			}
			close(ready)
			return nil
		})
		below = ready
	}
	return g.Wait()
}

func (u *unpacker) progress(i int, p UnpackProgress) {
	if u.opts.Progress != nil {
		u.opts.Progress(i, p)
	}
}

// layer unpacks layer i; below is closed when the layer under it is in place.
func (u *unpacker) layer(ctx context.Context, i int, below <-chan struct{}) error {
	chain := u.img.Layers[i].Chain
	if _, ok, err := u.s.Layer(chain); err != nil || ok {
		u.progress(i, Existed)
		return err
	}
	lock, err := flock.Acquire(ctx, u.s.layerLock(chain), flock.Exclusive)
	if err != nil {
		return u.s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	if _, ok, err := u.s.Layer(chain); err != nil || ok {
		u.progress(i, Existed)
		return err
	}
	if err := u.s.discardLayer(chain); err != nil {
		return err
	}
	// The lowest layer needs no second look: it is known that nothing is below.
	opts := &archive.ApplyOptions{Lowers: []string{}}
	if i > 0 {
		opts = &archive.ApplyOptions{Isolated: true}
	}
	st, err := u.apply(ctx, i, opts)
	if err != nil {
		return err
	}
	defer func() { st.remove() }()
	select {
	case <-below:
	case <-ctx.Done():
		return ctx.Err()
	}
	if i > 0 {
		lowers := u.lowers(i)
		err = archive.Settle(ctx, st.tree(), lowers, st.applied)
		if errors.Is(err, archive.ErrReapply) {
			st.remove()
			st, err = u.apply(ctx, i, &archive.ApplyOptions{Lowers: lowers})
		}
		if err != nil {
			return u.s.diskTrouble(err)
		}
	}
	step.At("unpack.settled")
	m := LayerMeta{Diff: st.Diff, Size: st.Bytes, Tar: st.Plain}
	if i > 0 {
		m.Parent = u.img.Layers[i-1].Chain
	}
	if err := u.s.publishLayer(st.dir, chain, m); err != nil {
		return err
	}
	step.At("unpack.renamed")
	u.progress(i, Unpacked)
	return nil
}

// apply unpacks the stream of layer i and checks its diff id. It begins anew
// when the stream turns out to have been wrong.
func (u *unpacker) apply(ctx context.Context, i int, opts *archive.ApplyOptions) (*StagedLayer, error) {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for verified := false; ; {
		st, err := u.applyOnce(ctx, i, opts)
		if err != nil && ctx.Err() == nil && !IsTrouble(err) {
			// Bad content may be the fault of its source: only a verified
			// stream is the image's own.
			if verdict := u.verdict(ctx, i); verdict != nil {
				err = verdict
			} else if !verified {
				// What was verified may be the stream of the next source already:
				// it is right, and unpacked once before anybody is blamed.
				verified = true
				continue
			}
		}
		if !errors.Is(err, ErrRestart) {
			return st, err
		}
	}
}

// verdict reads the stream to its end, for what becomes of its verification.
func (u *unpacker) verdict(ctx context.Context, i int) error {
	r, err := u.open(ctx, i)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func (u *unpacker) applyOnce(ctx context.Context, i int, opts *archive.ApplyOptions) (*StagedLayer, error) {
	r, err := u.open(ctx, i)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	u.progress(i, Unpacking)
	if u.opts.MaxBytes > 0 {
		bounded := *opts
		bounded.MaxBytes = u.opts.MaxBytes
		opts = &bounded
	}
	st, err := u.s.stage(ctx, u.lease, r, opts)
	if err != nil {
		return nil, err
	}
	if want := u.img.Layers[i].Diff; st.Diff != want {
		st.remove()
		return nil, fault.Invalid("its uncompressed content is %s, but the image's config says %s: the image is damaged or forged", st.Diff, want)
	}
	step.At("unpack.applied")
	return st, nil
}

// lowers are the trees below layer i, topmost first.
func (u *unpacker) lowers(i int) []string {
	return layers.Trees(u.s.root, u.img.Chains()[:i])
}
