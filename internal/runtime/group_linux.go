//go:build cgo

package runtime

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// killLimit is for processes in uninterruptible sleep to die.
const killLimit = 10 * time.Second

// group is the control group of a container on cgroup v1 whose processes join
// it by themselves (internal/reexec). libcontainer would move them, which waits
// for a grace period of the kernel at each start and exec; so its own view of
// the container has no groups at all, and what it does with groups is here.
//
// The v2 side of a hybrid machine is left out: it has no controllers, and there
// a process cannot move itself without that wait. Processes of the container
// are there where their supervisor is.
type group struct {
	cgroups.Manager
	theirs    map[string]string // the groups that libcontainer knows of: none
	path      string            // that is in all hierarchies
	resources *cgroups.Resources
	shared    bool // its processes outlive init
}

// takeGroup takes the control group out of libcontainer's hands. It returns
// nil where libcontainer keeps it: on cgroup v2, whose processes begin in their
// group, or if this version of libcontainer does not let go.
func takeGroup(c *libcontainer.Container, conf *configs.Config) (*group, error) {
	if !cgroup.JoinsFast() {
		return nil, nil
	}
	state, err := c.State()
	if err != nil {
		return nil, err
	}
	paths := maps.Clone(state.CgroupPaths)
	// It is the manager's own map, not a copy.
	theirs := state.CgroupPaths
	clear(theirs)
	if state, err = c.State(); err != nil || len(state.CgroupPaths) > 0 {
		return nil, err
	}
	delete(paths, "")
	own := *conf.Cgroups
	m, err := manager.NewWithPaths(&own, paths)
	if err != nil {
		return nil, err
	}
	g := &group{Manager: m, theirs: theirs, path: own.Path, resources: own.Resources, shared: !conf.Namespaces.IsPrivate(configs.NEWPID)}
	conf.Cgroups.Resources = &cgroups.Resources{}
	ignoreNoDevices()
	return g, nil
}

// ignoreNoDevices lets libcontainer set no device rules where it has no group.
// Those of the container are set by group.
var ignoreNoDevices = sync.OnceFunc(func() {
	set := cgroups.DevicesSetV1
	cgroups.DevicesSetV1 = func(path string, r *cgroups.Resources) error {
		if path == "" && len(r.Devices) == 0 {
			return nil
		}
		return set(path, r)
	}
})

// make makes the groups, so that a process can join them.
func (g *group) make() error {
	if g == nil {
		return nil
	}
	if err := g.Apply(-1); err != nil { // -1: no process
		return fmt.Errorf("make the control group: %w", err)
	}
	return nil
}

// limit sets limits and device rules, once init has made what it needs and
// before it runs the command.
func (g *group) limit() error {
	if g == nil {
		return nil
	}
	if err := g.Set(g.resources); err != nil {
		return fmt.Errorf("set the limits of the control group: %w", err)
	}
	return nil
}

// files are what a process writes "0" to, to join.
func (g *group) files() []string {
	if g == nil {
		return nil
	}
	var out []string
	for _, dir := range g.GetPaths() {
		out = append(out, filepath.Join(dir, "tasks"))
	}
	slices.Sort(out)
	return out
}

// has refuses a process that is elsewhere in any hierarchy.
func (g *group) has(pid int) error {
	if g == nil {
		return nil
	}
	in, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return fmt.Errorf("check the control group: %w", err)
	}
	for name := range g.GetPaths() {
		if in[name] != g.path {
			return fmt.Errorf("process %d is in the control group %q of %s, not in %q; the container was not started", pid, in[name], name, g.path)
		}
	}
	return nil
}

// crowded reports whether the limit of processes leaves no room for those that
// prepare an exec: libcontainer's, and the threads of Go's runtime.
func (g *group) crowded() bool {
	const room = 8
	if g == nil {
		return false
	}
	number := func(name string) int {
		s, _ := cgroups.ReadFile(g.Path("pids"), name)
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil { // "max"
			return math.MaxInt
		}
		return n
	}
	limit := number("pids.max")
	return limit != math.MaxInt && number("pids.current") > limit-room
}

// lend gives libcontainer the groups back until the function that it returns
// is called.
func (g *group) lend() (back func()) {
	maps.Copy(g.theirs, g.GetPaths())
	return func() { clear(g.theirs) }
}

// explain adds to an error that the kernel killed for want of memory.
func (g *group) explain(err error) error {
	if g == nil || err == nil {
		return err
	}
	if n, oerr := g.OOMKillCount(); oerr == nil && n > 0 {
		return fmt.Errorf("%w (possibly OOM-killed: is the memory limit too low?)", err)
	}
	return err
}

// destroy kills what is left and removes the groups.
func (g *group) destroy() error {
	if g == nil {
		return nil
	}
	var err error
	if g.shared {
		err = cgroup.Kill(g.path, killLimit)
	}
	return errors.Join(err, g.Destroy())
}

// Pause freezes all processes, Resume lets them go on.
func (c *Container) Pause() error {
	if c.group == nil {
		return c.c.Pause()
	}
	return c.group.Freeze(cgroups.Frozen)
}

func (c *Container) Resume() error {
	if c.group == nil {
		return c.c.Resume()
	}
	return c.group.Freeze(cgroups.Thawed)
}

// Pids lists the processes of the container as the host numbers them.
func (c *Container) Pids() ([]int, error) {
	if c.group == nil {
		return c.c.Processes()
	}
	pids, err := c.group.GetAllPids()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

// Destroy kills what is left in the cgroup and removes cgroup and state.
func (c *Container) Destroy() error {
	defer c.filter.Close()
	defer c.direct.close()
	return errors.Join(c.c.Destroy(), c.group.destroy())
}
