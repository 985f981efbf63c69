package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// ErrUnproven says that nothing is there to compare a layer with.
var ErrUnproven = errors.New("neither its blob nor a list of its files is there")

// CheckBlob reads a blob and compares it with its name. The error Is ErrDigest
// when it differs, ErrMissing when it is not there.
func (s *Store) CheckBlob(ctx context.Context, d digest.Digest) error {
	f, err := s.OpenBlob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, &contextReader{ctx, f}, make([]byte, 256<<10)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.trouble(err)
	}
	if got := fromSum(h.Sum(nil)); got != d {
		return fmt.Errorf("blob %s is damaged: its content is %s: %w", d, got, ErrDigest)
	}
	return nil
}

// CheckLayer compares the tree of layer i of an image, file by file, with what
// its blob gives when it is unpacked anew, or with the list that was written
// when the blob was dropped. Neither an archive made of the tree nor a sum of
// sizes would do: the digest of the original covers bytes that no tree keeps.
// The error Is ErrMissing when the layer is not there, ErrUnproven when there
// is nothing to compare with. The lease names the image.
func (s *Store) CheckLayer(ctx context.Context, l *Lease, img *Image, i int) error {
	chain := img.Layers[i].Chain
	m, ok, err := s.Layer(chain)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("layer %s is not unpacked: %w", chain, ErrMissing)
	}
	if m.Diff != img.Layers[i].Diff {
		return fmt.Errorf("layer %s says that it is %s, but the image's config %s", chain, m.Diff, img.Layers[i].Diff)
	}
	have, err := listTree(ctx, s.LayerDir(chain))
	if err != nil {
		return fmt.Errorf("layer %s cannot be read: %w", chain, err)
	}
	want, err := s.expected(ctx, l, img, i)
	if err != nil {
		return err
	}
	if err := compareTrees(want, have); err != nil {
		return fmt.Errorf("layer %s is damaged: %w", chain, err)
	}
	return nil
}

// expected is the list of what layer i must have.
func (s *Store) expected(ctx context.Context, l *Lease, img *Image, i int) ([]treeEntry, error) {
	if _, ok := s.HasBlob(img.Layers[i].Blob.Digest); ok {
		st, err := s.rebuild(ctx, l, img, i)
		if err != nil {
			return nil, fmt.Errorf("layer %s cannot be compared with its blob: %w", img.Layers[i].Chain, err)
		}
		defer st.remove()
		want, err := listTree(ctx, st.tree())
		// A directory that the layer passes through without describing it has
		// the time at which it was made, if nothing below has it.
		for k := range want {
			if slices.Contains(st.applied.Implicit, want[k].Path) {
				want[k].MTime = anyTime
			}
		}
		return want, err
	}
	list, err := s.readList(img.Layers[i].Chain)
	if err == nil && list == nil {
		err = ErrUnproven
	}
	return list, err
}

// rebuild unpacks layer i among the working files of the lease, over the
// layers below it as they are.
func (s *Store) rebuild(ctx context.Context, l *Lease, img *Image, i int) (*StagedLayer, error) {
	u := &unpacker{s: s, lease: l, img: img, opts: &UnpackOptions{}, slots: make(chan struct{}, 1)}
	u.open = func(_ context.Context, i int) (io.ReadCloser, error) { return s.OpenBlob(img.Layers[i].Blob.Digest) }
	lowers := u.lowers(i)
	if lowers == nil {
		lowers = []string{}
	}
	// Isolated first, also for the lowest layer: it tells what is implicit.
	st, err := u.apply(ctx, i, &archive.ApplyOptions{Isolated: true})
	if err != nil {
		return nil, err
	}
	err = archive.Settle(ctx, st.tree(), lowers, st.applied)
	if errors.Is(err, archive.ErrReapply) {
		implicit := st.applied.Implicit
		st.remove()
		if st, err = u.apply(ctx, i, &archive.ApplyOptions{Lowers: lowers}); err == nil {
			st.applied.Implicit = implicit
		}
	}
	if err != nil {
		st.remove()
		return nil, s.diskTrouble(err)
	}
	return st, nil
}

// ErrMounted says that a layer cannot be replaced since something uses it.
var ErrMounted = errors.New("in use")

// MendLayer unpacks layer i anew from its blob and puts it in the place of the
// one that is there, which nothing may have mounted: no running container and
// no live lease but l. A killed MendLayer leaves the old one, the new one, or
// none, which the next use unpacks.
func (s *Store) MendLayer(ctx context.Context, l *Lease, img *Image, i int) error {
	chain := img.Layers[i].Chain
	if err := l.AddLayers(ctx, chain); err != nil {
		return err
	}
	lock, err := flock.Acquire(ctx, s.layerLock(chain), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	st, err := s.rebuild(ctx, l, img, i)
	if err != nil {
		return err
	}
	defer st.remove()
	m := LayerMeta{Diff: st.Diff, Size: st.Bytes}
	if i > 0 {
		m.Parent = img.Layers[i-1].Chain
	}
	step.At("mend.rebuilt")
	gc, err := flock.Acquire(ctx, s.path("gc.lock"), flock.Exclusive)
	if err != nil {
		return s.lockTrouble(ctx, err)
	}
	defer gc.Release()
	held, err := s.holdUsers(chain, l)
	defer func() {
		for _, h := range held {
			h.Release()
		}
	}()
	if err != nil {
		return err
	}
	sw := &sweep{s: s, id: randomID()}
	if err := sw.take(s.layerPath(chain)); err != nil {
		return s.trouble(err)
	}
	step.At("mend.removed")
	if err := s.publishLayer(st.dir, chain, m); err != nil {
		return err
	}
	step.At("mend.renamed")
	gc.Release()
	s.SyncLayers([]string{chain})
	s.emptyTrash(ctx)
	return nil
}

// holdUsers keeps the containers that have a layer from starting, or reports
// who uses it now. gc.lock is held exclusively: nobody becomes a user.
func (s *Store) holdUsers(chain string, own *Lease) (held []*flock.Lock, err error) {
	uses, err := s.ContainerUses()
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	for _, u := range uses {
		for _, c := range u.Layers {
			if c != chain || done[u.ID] {
				continue
			}
			done[u.ID] = true
			lock, err := flock.Try(s.path("containers", u.ID, "alive"), flock.Exclusive)
			if errors.Is(err, flock.ErrHeld) {
				return held, fmt.Errorf("layer %s is %w: container %.12s runs; stop it, then repair again", chain, ErrMounted, u.ID)
			}
			if err != nil && !os.IsNotExist(err) {
				return held, s.trouble(err)
			}
			held = append(held, lock)
		}
	}
	m := s.noMarks()
	if err := m.leasesBut(own.id); err != nil {
		return held, err
	}
	if m.layers[chain] {
		return held, fmt.Errorf("layer %s is %w by another operation; repair again when that is over", chain, ErrMounted)
	}
	return held, nil
}
