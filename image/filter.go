package image

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// ListOptions choose images; an image must fulfil all that is given. The zero
// value chooses every image.
type ListOptions struct {
	// References are patterns of names, in the manner of path.Match, with or
	// without a tag: "alpine", "*/web:v*", "ghcr.io/*/*". Any of them suffices,
	// and only names that match one are listed.
	References []string
	// Labels are "KEY" or "KEY=VALUE"; an exclamation mark before it wants
	// images without that.
	Labels []string
	// Dangling chooses images that have no name, Named those that have one.
	Dangling, Named bool
	// Unused chooses images that no container uses.
	Unused bool
	// Before and Since name images: those created before, or after, them are
	// chosen.
	Before, Since string
	// CreatedBefore and CreatedSince bound the time of creation.
	CreatedBefore, CreatedSince time.Time
	// MinSize and MaxSize bound Info.Size, in bytes. 0: no bound.
	MinSize, MaxSize int64
}

func (o *ListOptions) check() error {
	for _, p := range o.References {
		if _, err := path.Match(p, ""); err != nil {
			return fault.Invalid("pattern %q is malformed: %w", p, err)
		}
	}
	return nil
}

// matches reports whether an image is chosen, and takes names away that were
// not asked for. used reports whether a container uses it.
func (o *ListOptions) matches(i *Info, used func(*Info) bool) bool {
	dangling := len(i.Refs) == 0 && len(i.Digests) == 0
	switch {
	case o.Dangling && !dangling, o.Named && dangling:
		return false
	case o.MinSize > 0 && i.Size < o.MinSize, o.MaxSize > 0 && i.Size > o.MaxSize:
		return false
	case !o.CreatedBefore.IsZero() && !i.Created.Before(o.CreatedBefore):
		return false
	case !o.CreatedSince.IsZero() && !i.Created.After(o.CreatedSince):
		return false
	}
	for _, l := range o.Labels {
		if !hasLabel(i.Labels, l) {
			return false
		}
	}
	if len(o.References) > 0 {
		i.Refs = slices.DeleteFunc(i.Refs, func(r Ref) bool { return !o.named(r) })
		i.Digests = slices.DeleteFunc(i.Digests, func(r Ref) bool { return !o.named(r) })
		if len(i.Refs) == 0 && len(i.Digests) == 0 {
			return false
		}
	}
	return !o.Unused || !used(i)
}

func hasLabel(labels map[string]string, want string) bool {
	want, not := strings.CutPrefix(want, "!")
	key, value, valued := strings.Cut(want, "=")
	have, ok := labels[key]
	return (ok && (!valued || have == value)) != not
}

// named reports whether a pattern fits a name: as a user writes it or in full,
// with or without its tag.
func (o *ListOptions) named(r Ref) bool {
	bare := Ref{Registry: r.Registry, Repository: r.Repository, Tag: "latest"}
	short := strings.TrimSuffix(bare.Familiar(), ":latest")
	for _, p := range o.References {
		for _, name := range []string{r.Familiar(), short, r.String(), r.Name()} {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return false
}
