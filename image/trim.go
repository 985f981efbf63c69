package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Trim does what the Root's Settings ask for: drops compressed blobs and keeps
// the images below Settings.MaxBytes. Pull, Load, Import and Commit do it by
// themselves; a program that changed the settings, or removed containers,
// calls it to have it done at once. It returns what went. When the limit
// cannot be kept, because containers use what is there, the error Is
// syscall.ENOSPC.
func (s *Store) Trim(ctx context.Context) (*Pruned, error) {
	set, err := s.settings()
	if err != nil {
		return nil, fault.New("image trim", "", err)
	}
	p, err := s.trim(ctx, set, 0, "")
	return p, fault.New("image trim", "", err)
}

// trim makes room for more bytes below the limit. The image keep stays.
func (s *Store) trim(ctx context.Context, set Settings, more int64, keep digest.Digest) (*Pruned, error) {
	p := &Pruned{}
	if !set.DropBlobs && set.MaxBytes == 0 {
		return p, nil
	}
	images, err := s.byUse(ctx)
	if err != nil {
		return p, err
	}
	h, err := s.s.Holding(ctx, nil)
	if err != nil {
		return p, err
	}
	sent, err := s.pushedHere(ctx)
	if err != nil {
		return p, err
	}
	over := func() int64 { return h.Size() - h.Garbage() - h.Working + more - set.MaxBytes }
	if over := over(); set.DropBlobs || over > 0 {
		enough := func(freed int64) bool { return !set.DropBlobs && freed >= over }
		layers := slices.DeleteFunc(fetchable(images), func(l store.Droppable) bool { return sent[l.Blob.Digest] })
		gone, freed, err := s.s.DropBlobs(ctx, layers, enough)
		p.Bytes += freed
		for _, d := range gone {
			p.Blobs = append(p.Blobs, string(d))
		}
		if err != nil {
			return p, err
		}
	}
	if set.MaxBytes == 0 {
		return p, nil
	}
	if h, err = s.s.Holding(ctx, nil); err != nil {
		return p, err
	}
	if h.Size()+more <= set.MaxBytes {
		return p, nil
	}
	if err := s.removeOldest(ctx, p, images, h.Leased, keep, func(h *store.Holding) bool { return beyond(h, more, set.MaxBytes) }); err != nil {
		return p, err
	}
	if h, err = s.s.Holding(ctx, nil); err == nil && h.Size()+more > set.MaxBytes {
		err = overLimit(set.MaxBytes, h.Size(), more)
	}
	return p, err
}

// pushedHere is what clients of the registry sent to this store. They may have
// kept nothing, and ask for it by its digest.
func (s *Store) pushedHere(ctx context.Context) (map[digest.Digest]bool, error) {
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	sent := map[digest.Digest]bool{}
	for _, n := range names {
		if n.Pushed {
			blobs, _ := s.s.Reached(n.Target, n.Manifest)
			maps.Copy(sent, blobs)
		}
	}
	return sent, nil
}

// beyond reports whether the limit is passed even without what is garbage.
func beyond(h *store.Holding, more, limit int64) bool {
	return h.Size()-h.Garbage()-h.Working+more > limit
}

func overLimit(limit, have, more int64) error {
	return fault.Opaque(fmt.Errorf("images may take %d bytes, %d are taken by what is in use and %d more are needed: %w; raise Settings.MaxBytes or remove containers",
		limit, have, more, syscall.ENOSPC))
}

// lastUsed is an image with what it is judged by.
type lastUsed struct {
	Info
	img  *store.Image // nil if it is damaged
	idle bool
}

// byUse lists images, the one that was used least recently first.
func (s *Store) byUse(ctx context.Context) ([]lastUsed, error) {
	infos, err := s.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	used, err := s.usage(ctx)
	if err != nil {
		return nil, err
	}
	var out []lastUsed
	for _, i := range infos {
		one := lastUsed{Info: i, idle: used.of(digest.Digest(i.ID), digest.Digest(i.Manifest)) == 0}
		one.img, _ = s.s.Image(digest.Digest(i.Manifest))
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b lastUsed) int {
		return cmp.Or(s.s.Used(digest.Digest(a.ID)).Compare(s.s.Used(digest.Digest(b.ID))), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

// fetchable are the layers that a registry has, and under which names.
func fetchable(images []lastUsed) []store.Droppable {
	origins := map[string][]string{}
	for _, i := range images {
		if i.img == nil {
			continue
		}
		for _, l := range i.img.Layers {
			for _, ref := range i.Digests {
				if name := ref.String(); !slices.Contains(origins[l.Chain], name) {
					origins[l.Chain] = append(origins[l.Chain], name)
				}
			}
		}
	}
	var out []store.Droppable
	for _, i := range images {
		if i.img == nil {
			continue
		}
		for _, l := range i.img.Layers {
			if from := origins[l.Chain]; from != nil {
				out = append(out, store.Droppable{Layer: l, Origins: from})
			}
		}
	}
	return out
}

// removeOldest removes as many unused images as the limit asks for.
func (s *Store) removeOldest(ctx context.Context, p *Pruned, images []lastUsed, leased map[string]bool, keep digest.Digest, over func(*store.Holding) bool) error {
	var going []Info
	gone := map[digest.Digest]bool{}
	for _, i := range images {
		h, err := s.s.Holding(ctx, func(n *store.Name) bool { return gone[n.ImageID] })
		if err != nil {
			return err
		}
		if !over(h) {
			break
		}
		if i.idle && digest.Digest(i.ID) != keep && !leased[i.Manifest] && !leased[i.ID] {
			going, gone[digest.Digest(i.ID)] = append(going, i.Info), true
		}
	}
	r, err := s.removeAll(ctx, going, false, false)
	if r != nil {
		p.Images, p.Layers, p.Bytes = r.Images, r.Layers, p.Bytes+r.Bytes
		p.Blobs = append(p.Blobs, r.Blobs...)
	}
	return err
}

// beforeLimit lists the images that are here, nil when no limit may undo what
// comes.
func (s *Store) beforeLimit(ctx context.Context) (map[digest.Digest]bool, error) {
	set, err := s.settings()
	if err != nil || set.MaxBytes == 0 {
		return nil, err
	}
	names, err := s.s.Names(ctx)
	known := map[digest.Digest]bool{}
	for _, n := range names {
		known[n.ImageID] = true
	}
	return known, err
}

// tidy follows what made an image; its lease is closed. What a limit cannot
// bear goes again, when undo says that nobody had it before.
func (s *Store) tidy(ctx context.Context, img *Image, undo bool) error {
	set, err := s.settings()
	if err != nil || !set.DropBlobs && set.MaxBytes == 0 {
		return err
	}
	s.s.Touch(img.img.ID)
	s.s.Wait() // what is not synced cannot do without its blob
	_, err = s.trim(ctx, set, 0, img.img.ID)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if !undo || !errors.Is(err, syscall.ENOSPC) {
		s.log.Warn("image: the store's limit is not kept", "err", err)
		return nil
	}
	if _, rerr := s.Remove(ctx, img.ID(), &RemoveOptions{Force: true}); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}

// reserve sees to it that a download of n bytes fits below the limit.
func (s *Store) reserve(ctx context.Context, n int64) error {
	if n == 0 {
		return nil
	}
	set, err := s.settings()
	if err != nil || set.MaxBytes == 0 {
		return err
	}
	set.DropBlobs = false // only what is necessary
	h, err := s.s.Holding(ctx, nil)
	if err != nil || h.Size()+n <= set.MaxBytes {
		return err
	}
	_, err = s.trim(ctx, set, n, "")
	return err
}
