package volume

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/volumes"
)

// Info is a snapshot of a volume.
type Info struct {
	Name      string            `json:"name"`
	Driver    string            `json:"driver"`
	Source    string            `json:"source"` // the directory of the host that containers have mounted
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
	// Containers are the ids of the containers that use it, running or not.
	Containers []string `json:"containers,omitempty"`
	// Problem says what is wrong when the volume's record cannot be read; then
	// only Name, Driver, Source and Containers are right.
	Problem string `json:"problem,omitempty"`
}

func makeInfo(v *volumes.Volume, users []volumes.User) Info {
	info := Info{Name: v.Name, Driver: v.Driver, Source: v.Source(), Created: v.Created, Labels: maps.Clone(v.Labels),
		Options: maps.Clone(v.Options), Anonymous: v.Anonymous, Problem: v.Problem}
	for _, u := range users {
		info.Containers = append(info.Containers, u.ID)
	}
	return info
}

// Filter chooses volumes. The zero value, and nil, choose all; what is set
// must all hold.
type Filter struct {
	Names   []string // one of these is part of the name
	Labels  []string // each of these is there: "key" or "key=value"
	Without []string // none of these is there: "key" or "key=value"
	Drivers []string // one of these is the driver
	// Dangling chooses volumes that no container uses (true) or that one does
	// (false).
	Dangling *bool
}

// matches looks at all but Dangling.
func (f *Filter) matches(v *volumes.Volume) bool {
	if f == nil {
		return true
	}
	if len(f.Names) > 0 && !slices.ContainsFunc(f.Names, func(n string) bool { return strings.Contains(v.Name, n) }) {
		return false
	}
	if len(f.Drivers) > 0 && !slices.Contains(f.Drivers, v.Driver) {
		return false
	}
	has := func(label string) bool { return hasLabel(v.Labels, label) }
	return !slices.ContainsFunc(f.Without, has) && !slices.ContainsFunc(f.Labels, func(l string) bool { return !has(l) })
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!exact || got == value)
}

// List returns the volumes that the filter chooses, sorted by name. One that
// is damaged is listed, too, with its Problem.
func (m *Manager) List(ctx context.Context, filter *Filter) ([]Info, error) {
	all, err := m.s.List(ctx)
	if err != nil {
		return nil, fault.New("volume list", "", err)
	}
	users, err := m.s.Users()
	if err != nil && filter != nil && filter.Dangling != nil {
		return nil, fault.New("volume list", "", err) // it might be a lie
	}
	infos := make([]Info, 0, len(all))
	for _, v := range all {
		if !filter.matches(v) {
			continue
		}
		used := users[v.Name]
		if filter != nil && filter.Dangling != nil && *filter.Dangling != (len(used) == 0) {
			continue
		}
		infos = append(infos, makeInfo(v, used))
	}
	return infos, nil
}

// PruneOptions choose what Prune removes.
type PruneOptions struct {
	// Named removes volumes that were given a name, too. Without, only
	// anonymous ones go.
	Named bool
	// Filter chooses among them; Dangling has no effect.
	Filter *Filter
}

// Pruned says what Prune removed.
type Pruned struct {
	Names []string
	Bytes int64 // of their files, as Size counts
}

// Prune removes anonymous volumes that no container uses, and named ones only
// if it is told to. A volume in use stays, also one whose container is just
// being created. What was removed before an error is returned with it.
func (m *Manager) Prune(ctx context.Context, opts *PruneOptions) (*Pruned, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	p, err := m.s.Prune(ctx, &volumes.PruneOptions{Named: opts.Named, Filter: opts.Filter.matches})
	return &Pruned{Names: p.Names, Bytes: p.Bytes}, fault.New("volume prune", "", err)
}

// Usage is how much room volumes take.
type Usage struct {
	Volumes  []VolumeUsage
	Bytes    int64 // of all that have a directory of their own
	Dangling int64 // of those that no container uses
}

// VolumeUsage is one volume's part.
type VolumeUsage struct {
	Info
	Bytes int64 // -1: unknown, as it is a directory of the host or unreadable
}

// Usage measures all volumes. It reads their whole trees.
func (m *Manager) Usage(ctx context.Context) (*Usage, error) {
	infos, err := m.List(ctx, nil)
	if err != nil {
		return nil, err
	}
	u := &Usage{Volumes: make([]VolumeUsage, 0, len(infos))}
	for _, info := range infos {
		n, err := m.s.Size(ctx, info.Name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			n = -1
		}
		u.Volumes = append(u.Volumes, VolumeUsage{info, n})
		u.Bytes += max(n, 0)
		if len(info.Containers) == 0 {
			u.Dangling += max(n, 0)
		}
	}
	return u, nil
}
