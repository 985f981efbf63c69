package image

import (
	"context"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// RemoveOptions tune Remove.
type RemoveOptions struct {
	// Force removes all names of an image given by its id, and an image that
	// containers use: their layers stay until they are gone.
	Force bool
	// KeepData leaves blobs and layers for a later removal to collect.
	KeepData bool
}

// Removed says what Remove did.
type Removed struct {
	ID       string
	Untagged []Ref    // names taken away
	Deleted  bool     // the image has no name left and is gone
	Layers   []string // chain ids of layers deleted from disk
}

// partialAge is how long a download that was given up is kept when images are
// removed: a pull that failed in the evening may go on in the morning.
const partialAge = 24 * time.Hour

// Remove takes a name away, and with the last name the image itself. Given an
// id it removes the image if it has one name at most, or all names with Force.
// The error Is ErrInUse when a container uses the image or when it has several
// names, fs.ErrNotExist when there is no such image.
func (s *Store) Remove(ctx context.Context, name string, opts *RemoveOptions) (*Removed, error) {
	if opts == nil {
		opts = &RemoveOptions{}
	}
	r, err := s.remove(ctx, name, opts)
	if err != nil {
		return r, fault.New("image remove", name, err)
	}
	if !r.Deleted || opts.KeepData {
		return r, nil
	}
	got, err := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge})
	if err != nil {
		// The image is gone; its data goes with the next removal.
		s.log.Warn("image: data of a removed image not collected yet", "image", name, "err", err)
		return r, nil
	}
	r.Layers = got.Layers
	return r, nil
}

func (s *Store) remove(ctx context.Context, name string, opts *RemoveOptions) (*Removed, error) {
	n, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	r := &Removed{ID: string(n.ImageID)}
	err = s.s.UpdateNames(ctx, func(tx *store.NamesTx) error {
		all := tx.Of(n.ImageID)
		gone, err := chooseRemoved(n, all, opts.Force)
		if err != nil {
			return err
		}
		last := len(gone) == len(named(all))
		if last && !opts.Force {
			if err := s.unused(n.ImageID); err != nil {
				return err
			}
		}
		return s.removeNames(ctx, tx, gone, last, r)
	})
	return r, err
}

// named leaves out the file that keeps a nameless image.
func named(all []*store.Name) []*store.Name {
	var out []*store.Name
	for _, n := range all {
		if n.Name != "" {
			out = append(out, n)
		}
	}
	return out
}

// chooseRemoved says which names go. n is what the caller asked for, with an
// empty Name if by id.
func chooseRemoved(n *store.Name, all []*store.Name, force bool) ([]*store.Name, error) {
	if len(all) == 0 {
		return nil, fault.NotExist("the image was removed meanwhile")
	}
	names := named(all)
	if n.Name == "" {
		if len(names) > 1 && !force {
			var list []string
			for _, n := range names {
				list = append(list, familiar(n.Name))
			}
			return nil, fault.Kind(ErrInUse, "the image has %d names (%s): remove those, or force it", len(names), strings.Join(list, ", "))
		}
		return names, nil
	}
	var gone, tags []*store.Name
	for _, other := range names {
		switch {
		case other.Name == n.Name:
			gone = append(gone, other)
		case repositoryOf(other) == repositoryOf(n) && !strings.Contains(other.Name, "@"):
			tags = append(tags, other)
		}
	}
	if len(gone) == 0 {
		return nil, fault.NotExist("the name was removed meanwhile")
	}
	// With the last tag of a repository go the digests pulled from it.
	for _, other := range names {
		if len(tags) == 0 && other.Name != n.Name && repositoryOf(other) == repositoryOf(n) && strings.Contains(other.Name, "@") {
			gone = append(gone, other)
		}
	}
	return gone, nil
}

func familiar(name string) string {
	r, err := parseRef(name)
	if err != nil {
		return name
	}
	return r.Familiar()
}

func (s *Store) unused(id digest.Digest) error {
	uses, err := s.s.ContainerUses()
	if err != nil {
		return err
	}
	for _, u := range uses {
		if u.ImageID == id {
			return fault.Kind(ErrInUse, "container %s uses it: remove that, or force it", shortID("sha256:"+u.ID))
		}
	}
	return nil
}

// removeNames takes names away one after another, so that a kill between two
// of them leaves an image with fewer names; before the last one a file without
// a name takes its place, whose removal is the image's.
func (s *Store) removeNames(ctx context.Context, tx *store.NamesTx, gone []*store.Name, last bool, r *Removed) error {
	for i, n := range gone {
		if last && i == len(gone)-1 && len(tx.Of(n.ImageID)) == 1 {
			if err := tx.Keep(n); err != nil {
				return err
			}
		}
		if err := tx.Remove(ctx, "untag", n); err != nil {
			return err
		}
		ref, _ := parseRef(n.Name)
		r.Untagged = append(r.Untagged, ref)
	}
	if !last {
		return nil
	}
	for _, n := range tx.Of(digest.Digest(r.ID)) {
		if err := tx.Remove(ctx, "delete", n); err != nil {
			return err
		}
	}
	r.Deleted = true
	return nil
}
