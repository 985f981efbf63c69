package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Info is a snapshot of an image and its names.
type Info struct {
	ID       string // digest of the config
	Manifest string // digest of the chosen platform's manifest
	Refs     []Ref  // tags, sorted; empty for an image that lost its last one
	Digests  []Ref  // names with the digest under which a registry knows the image
	Platform string
	Created  time.Time // as the config says; zero if it does not
	Labels   map[string]string
	// Size is the content of the image's files in bytes when it is unpacked,
	// else the size of its blobs.
	Size     int64
	Unpacked bool
	// Problem says what is wrong when the image cannot be read; then only ID,
	// Manifest, Refs and Digests are set.
	Problem string
}

// List returns the images that opts choose, nil being all, the newest first,
// without the artifacts that a registry keeps beside them (see Serve). An image that is damaged is listed too, with its Problem. The error Is
// fs.ErrNotExist when an image that opts name does not exist.
func (s *Store) List(ctx context.Context, opts *ListOptions) ([]Info, error) {
	infos, err := s.list(ctx, opts)
	return infos, fault.New("image list", "", err)
}

func (s *Store) list(ctx context.Context, opts *ListOptions) ([]Info, error) {
	if opts == nil {
		opts = &ListOptions{}
	}
	chosen, used, err := s.chooser(ctx, opts)
	if err != nil {
		return nil, err
	}
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest][]*store.Name{}
	for _, n := range names {
		if n.Artifact == "" {
			byID[n.ImageID] = append(byID[n.ImageID], n)
		}
	}
	infos := make([]Info, 0, len(byID))
	for _, group := range byID {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if info := s.info(group); chosen.matches(&info, used) {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return infos, nil
}

// chooser makes times of the images that opts name, and learns what containers
// use if that matters.
func (s *Store) chooser(ctx context.Context, opts *ListOptions) (*ListOptions, func(*Info) bool, error) {
	o := *opts
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	for name, bound := range map[string]*time.Time{o.Before: &o.CreatedBefore, o.Since: &o.CreatedSince} {
		if name == "" {
			continue
		}
		img, err := s.Get(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		created := img.config.Created
		if created == nil {
			return nil, nil, fault.Invalid("image %s does not say when it was created", name)
		}
		if bound.IsZero() || (bound == &o.CreatedBefore) == created.Before(*bound) {
			*bound = *created
		}
	}
	if !o.Unused {
		return &o, nil, nil
	}
	uses, err := s.usage(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &o, func(i *Info) bool { return uses.of(digest.Digest(i.ID), digest.Digest(i.Manifest)) > 0 }, nil
}

// uses says how many containers have an image, or mount it: by its config, its
// manifest, or its topmost layer.
type uses struct {
	s      *Store
	ids    map[digest.Digest]int
	layers map[string]int
}

func (s *Store) usage(ctx context.Context) (*uses, error) {
	all, err := s.s.ContainerUses()
	if err != nil {
		return nil, err
	}
	u := &uses{s: s, ids: map[digest.Digest]int{}, layers: map[string]int{}}
	seen := map[string]bool{} // a record may be there in two versions
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if seen[c.ID] {
			u.ids[c.ImageID] = max(1, u.ids[c.ImageID])
		} else {
			u.ids[c.ImageID]++
		}
		seen[c.ID] = true
		for _, l := range c.Layers {
			u.layers[l]++
		}
	}
	return u, nil
}

func (u *uses) of(id, manifest digest.Digest) int {
	if n := u.ids[id]; n > 0 {
		return n
	}
	img, err := u.s.s.Image(manifest)
	if err != nil || len(img.Layers) == 0 {
		return 0
	}
	return u.layers[img.Layers[len(img.Layers)-1].Chain]
}

// Info is a snapshot of the image and the names it has now.
func (i *Image) Info(ctx context.Context) (Info, error) {
	names, err := i.s.s.Names(ctx)
	if err != nil {
		return Info{}, fault.New("image info", i.label(), err)
	}
	names = slices.DeleteFunc(names, func(n *store.Name) bool { return n.ImageID != i.img.ID })
	info := Info{ID: i.ID(), Manifest: i.Manifest()}
	info.names(names)
	return info, i.s.fill(&info, i.img)
}

func (s *Store) info(group []*store.Name) Info {
	info := Info{ID: string(group[0].ImageID), Manifest: string(group[0].Manifest)}
	info.names(group)
	img, err := s.s.Image(group[0].Manifest)
	if err == nil {
		err = s.fill(&info, img)
	}
	if err != nil {
		info.Problem = err.Error()
	}
	return info
}

func (info *Info) names(group []*store.Name) {
	for _, n := range group {
		ref, err := parseRef(n.Name)
		if err != nil {
			continue // the nameless one
		}
		if ref.Digest == "" {
			info.Refs = append(info.Refs, ref)
		}
		if n.Pulled || ref.Digest != "" {
			ref.Tag, ref.Digest = "", string(n.Target)
			if !slices.Contains(info.Digests, ref) {
				info.Digests = append(info.Digests, ref)
			}
		}
	}
}

func (s *Store) fill(info *Info, img *store.Image) error {
	config, err := parseConfig(img.Config)
	if err != nil {
		return err
	}
	info.Platform, info.Labels = formatPlatform(config.Image.Platform), config.Config.Labels
	if config.Created != nil {
		info.Created = *config.Created
	}
	info.Size, info.Unpacked, err = s.size(img)
	return err
}

func (s *Store) size(img *store.Image) (int64, bool, error) {
	var plain, packed int64
	unpacked := true
	for _, l := range img.Layers {
		m, ok, err := s.s.Layer(l.Chain)
		if err != nil {
			return 0, false, err
		}
		unpacked = unpacked && ok
		plain += m.Size
		packed += l.Blob.Size
	}
	if unpacked {
		return plain, true, nil
	}
	return packed, false, nil
}
