package container

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/network"
)

// Status is where a container is in its life.
type Status string

const (
	Created    Status = "created"    // never started
	Running    Status = "running"    //
	Paused     Status = "paused"     // its processes are frozen
	Restarting Status = "restarting" // waiting to be started again by its policy
	Removing   Status = "removing"   //
	Exited     Status = "exited"     //
	Dead       Status = "dead"       // its record is damaged; it can be removed
)

// Info is a snapshot of a container.
type Info struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Image    string            `json:"image,omitempty"`   // as it was asked for
	ImageID  string            `json:"imageID,omitempty"` // digest of its config
	Rootfs   string            `json:"rootfs,omitempty"`
	Command  []string          `json:"command"`
	Labels   map[string]string `json:"labels,omitempty"`
	Network  string            `json:"network"` // none, host, container:ID, or the first network's name
	Volumes  []VolumeUse       `json:"volumes,omitempty"`
	TTY      bool              `json:"tty,omitempty"`
	Stdin    bool              `json:"stdin,omitempty"`
	Owned    bool              `json:"owned,omitempty"`
	Status   Status            `json:"status"`
	Pid      int               `json:"pid,omitempty"` // of the first process, as the host numbers it
	Started  time.Time         `json:"started,omitzero"`
	Restarts int               `json:"restarts,omitempty"`
	Exit     *Exit             `json:"exit,omitempty"`   // the last one; nil if there was none
	Health   *HealthInfo       `json:"health,omitempty"` // nil: no check, or it does not run

	// WaitsForSupervisor says that the restart policy demands a start that only
	// a process calling Supervise will do: the machine was restarted, or the
	// container's own supervisor was killed.
	WaitsForSupervisor bool `json:"waitsForSupervisor,omitempty"`

	// Networks are what a running container is attached to, with addresses and
	// published ports as they are.
	Networks []network.Attachment `json:"networks,omitempty"`

	Log  string `json:"log,omitempty"`  // path of the log file; set by Inspect only
	Spec *Spec  `json:"spec,omitempty"` // as given to Create; set by Inspect only

	configured *record.Container // for Filter: networks and ports of one that does not run
}

// VolumeUse is a volume that the container has mounted.
type VolumeUse struct {
	Name      string `json:"name"`
	Target    string `json:"target"`
	Anonymous bool   `json:"anonymous,omitempty"`
}

// Exit is how a container ended, or why it could not start.
type Exit struct {
	Code      int       `json:"code"`             // 128+n for signal n
	Signal    int       `json:"signal,omitempty"` // 0: it ended by itself
	OOMKilled bool      `json:"oomKilled,omitempty"`
	Unknown   bool      `json:"unknown,omitempty"` // nobody saw it: the supervisor was killed or the machine lost
	Error     string    `json:"error,omitempty"`   // why a start failed, or what is known of an unseen end
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished"`
}

func newExit(e *record.Exit) *Exit {
	if e == nil {
		return nil
	}
	return &Exit{Code: e.Code, Signal: e.Signal, OOMKilled: e.OOMKilled, Unknown: e.Unknown, Error: e.Error, Started: e.Started, Finished: e.Finished}
}

func newInfo(s *record.Snapshot) *Info {
	i := &Info{ID: s.ID, Name: s.Name, Created: s.Created, Image: s.Image, ImageID: s.ImageID, Rootfs: s.Rootfs,
		Command: s.Command, Labels: s.Labels, Network: s.Network, TTY: s.TTY, Stdin: s.Stdin, Owned: s.Owned,
		Status: Status(s.Status), Exit: newExit(s.Exit), Health: newHealth(s.Run), configured: s.Container}
	for _, v := range s.Volumes {
		i.Volumes = append(i.Volumes, VolumeUse(v))
	}
	if s.Exit != nil {
		i.Started, i.Restarts = s.Exit.Started, s.Exit.Restarts
	}
	if s.Run != nil && s.Run.Seq > 0 {
		i.Pid, i.Started, i.Restarts = s.Run.Pid, s.Run.Started, s.Run.Restarts
	}
	i.WaitsForSupervisor = s.Status == record.Exited && wantsSupervisor(s)
	return i
}

// wantsSupervisor says whether the policy demands that an ended container is
// started by whoever supervises the store: its own supervisor did not live to
// do so. As with Docker, "always" means also after a restart of the machine
// before which a caller had stopped it.
func wantsSupervisor(s *record.Snapshot) bool {
	if s.Exit == nil {
		return false
	}
	cut := (s.Exit.Unknown || s.Exit.Again) && !s.Stopped
	switch s.Restart.Policy {
	case "always":
		boot, err := proc.BootID()
		return cut || err == nil && s.Exit.Boot != boot
	case "unless-stopped":
		return cut
	case "on-failure":
		return cut && (s.Restart.Max == 0 || s.Exit.Restarts < s.Restart.Max)
	}
	return false
}

func readSpec(root *record.Root, id string) (*Spec, error) {
	b, err := os.ReadFile(root.Path(id, "spec.json"))
	if err != nil {
		return nil, fault.Opaque(err)
	}
	spec := new(Spec)
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, fault.Opaque(err)
	}
	rec, err := root.Load(id)
	if err != nil {
		return nil, err
	}
	if now := (Restart{Policy: rec.Restart.Policy, MaxRetries: rec.Restart.Max}); now != spec.Restart {
		spec.Restart = now
	}
	if rec.Update != nil {
		spec.Resources = Resources{}
		err = json.Unmarshal(rec.Update.Spec, &spec.Resources)
	}
	return spec, fault.Opaque(err)
}

// Filter chooses containers of a List. All given conditions must hold; of
// several values of one, any.
type Filter struct {
	Status  []Status          // empty: any
	Name    []string          // part of the name, or a pattern of path.Match
	ID      []string          // beginning of the id
	Label   map[string]string // key and value; an empty value: the key alone
	Image   []string          // as asked for at creation, or beginning of the id
	Volume  []string          // name or target of a mounted volume
	Network []string          // name, id or unique beginning of an id, of one that it is or will be attached to; network.None or Host
	Publish []string          // ports of the container that are, or will be, published: "80", "53/udp", "7000-7010"
}

func (f *Filter) match(i *Info) bool {
	any := func(values []string, ok func(string) bool) bool {
		return len(values) == 0 || slices.ContainsFunc(values, ok)
	}
	if len(f.Status) > 0 && !slices.Contains(f.Status, i.Status) {
		return false
	}
	for k, v := range f.Label {
		if have, ok := i.Labels[k]; !ok || v != "" && have != v {
			return false
		}
	}
	return any(f.Name, func(n string) bool {
		ok, _ := path.Match(n, i.Name)
		return ok || strings.Contains(i.Name, n)
	}) && any(f.ID, func(p string) bool { return strings.HasPrefix(i.ID, p) }) &&
		any(f.Image, func(p string) bool {
			return i.Image == p || p != "" && strings.HasPrefix(strings.TrimPrefix(i.ImageID, "sha256:"), strings.TrimPrefix(p, "sha256:"))
		}) &&
		any(f.Volume, func(n string) bool {
			return slices.ContainsFunc(i.Volumes, func(v VolumeUse) bool { return v.Name == n || v.Target == n })
		}) &&
		any(f.Network, i.uses)
}

// uses says whether the container runs, or will run, with that network.
func (i *Info) uses(name string) bool {
	return i.Network == name || i.configured != nil &&
		slices.ContainsFunc(i.configured.Networks, func(e record.Endpoint) bool { return e.Network == name })
}

// publishes says whether one of the ports is, or will be, published.
func (i *Info) publishes(ports []network.Port) bool {
	return i.configured != nil && slices.ContainsFunc(i.configured.Ports, func(have record.Port) bool {
		return slices.ContainsFunc(ports, func(p network.Port) bool { return p.Container == have.Container && p.Protocol == have.Protocol })
	})
}

// resolve reads what the filter names: networks by any of their names, ports.
func (m *Manager) resolve(ctx context.Context, f *Filter) (_ *Filter, ports []network.Port, err error) {
	r := *f
	r.Network = slices.Clone(f.Network)
	for i, ref := range r.Network {
		if n, err := m.networks.Get(ctx, ref); err == nil {
			r.Network[i] = n.Name
		}
	}
	ports, err = expand(f.Publish)
	return &r, ports, err
}

// List returns the containers that match, the newest first. Nil matches all.
// A damaged one is listed as Dead. Those in which commands of builds run are
// left out, unless the filter asks for the label LabelBuild: they come and go
// with the build.
func (m *Manager) List(ctx context.Context, f *Filter) ([]*Info, error) {
	ids, err := m.root.IDs()
	if err != nil {
		return nil, fault.New("container list", "", err)
	}
	if f == nil {
		f = &Filter{}
	}
	f, ports, err := m.resolve(ctx, f)
	if err != nil {
		return nil, fault.New("container list", "", err)
	}
	attached, err := network.AllAttachments(m.networks)
	if err != nil { // a damaged file of one must not hide all containers
		m.log.Warn("amphora: addresses of containers cannot be shown", "error", err)
	}
	infos := make([]*Info, len(ids))
	var wg sync.WaitGroup
	const parallel = 4 // reads of small cached files: more gains nothing
	for w := range parallel {
		wg.Go(func() {
			for i := w; i < len(ids) && ctx.Err() == nil; i += parallel {
				if infos[i] = m.snapshot(ctx, ids[i]); infos[i] != nil && infos[i].Status != Exited {
					infos[i].Networks = attached[ids[i]]
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, asked := f.Label[LabelBuild]
	infos = slices.DeleteFunc(infos, func(i *Info) bool {
		return i == nil || i.Labels[LabelBuild] != "" && !asked || !f.match(i) || len(ports) > 0 && !i.publishes(ports)
	})
	slices.SortFunc(infos, func(a, b *Info) int { return b.Created.Compare(a.Created) })
	return infos, nil
}

// snapshot returns nil for a container that is not there, or not yet.
func (m *Manager) snapshot(ctx context.Context, id string) *Info {
	s, err := recovery.Judge(ctx, m.root, id)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return &Info{ID: id, Status: Dead, Exit: &Exit{Error: err.Error()}}
	}
	info := newInfo(s)
	info.Labels = maps.Clone(info.Labels)
	return info
}
