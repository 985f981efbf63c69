//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/container"
	"golang.org/x/sys/unix"
)

// sleeper is a container that ends by itself only when it is asked to, with 7.
func sleeper(name string) *container.Spec {
	return &container.Spec{Name: name, Image: boxImage, Process: container.Process{
		Command: []string{"sh", "-c", `trap "exit 7" TERM; echo ready; while :; do sleep 0.2; done`}}}
}

// start makes and starts a detached container and finds its processes and
// group.
func (g *guest) start(spec *container.Spec) (c *container.Container, init, shim int, group string, err error) {
	if c, err = g.eng.Containers().Create(g.ctx, spec, nil); err != nil {
		return
	}
	if err = c.Start(g.ctx); err != nil {
		return
	}
	for _, err = range c.Logs(g.ctx, &container.LogOptions{Follow: true}) {
		break // "ready": it listens to signals now
	}
	if err != nil {
		return
	}
	init, shim, group, err = g.processes(c)
	return
}

func (g *guest) processes(c *container.Container) (init, shim int, group string, err error) {
	i, err := c.Inspect(g.ctx)
	if err != nil {
		return
	}
	if i.Status != container.Running {
		return 0, 0, "", fmt.Errorf("%s is %s, exit %+v", i.Name, i.Status, i.Exit)
	}
	init = i.Pid
	if shim, err = parentOf(init); err != nil {
		return
	}
	if group, err = groupOf(init); err != nil {
		return
	}
	shims, err := groupOf(shim)
	if err == nil && (path.Base(group) != c.ID() || shims != path.Dir(group)+"/shims") {
		err = fmt.Errorf("init is in %s, its supervisor in %s", group, shims)
	}
	return
}

func life(g *guest) error {
	c, init, _, group, err := g.start(sleeper("life"))
	if err != nil {
		return err
	}
	g.say("init %d is in %s", init, group)
	x := c.Command(g.ctx, "sh", "-c", "echo from exec; exit 5")
	out, err := x.Output()
	if container.Code(err) != 5 || string(out) != "from exec\n" {
		return fmt.Errorf("exec: %q, %w", out, explain(err))
	}
	x = c.Command(g.ctx, "sleep", "1000")
	if err := x.Start(); err != nil {
		return err
	}
	if in, err := groupOf(x.Pid); err != nil || in != group {
		return fmt.Errorf("the exec is in group %q, %v", in, err)
	}
	if err := c.Pause(g.ctx); err != nil {
		return err
	}
	if !strings.Contains(groupFile(group, "cgroup.events"), "frozen 1") {
		return errors.New("not frozen: " + groupFile(group, "cgroup.events"))
	}
	if err := c.Command(g.ctx, "true").Run(); !errors.Is(err, container.ErrPaused) {
		return fmt.Errorf("exec in a paused container: %v", err)
	}
	if err := c.Resume(g.ctx); err != nil {
		return err
	}
	if !strings.Contains(groupFile(group, "cgroup.events"), "frozen 0") {
		return errors.New("still frozen")
	}
	if err := c.Stop(g.ctx, &container.StopOptions{Timeout: 20 * time.Second}); err != nil {
		return err
	}
	if err := x.Wait(); container.Code(err) != 137 {
		return fmt.Errorf("the exec ended with %v", err)
	}
	return g.ended(c, group, 7)
}

// ended checks the exit, that the group is gone, and removes the container.
func (g *guest) ended(c *container.Container, group string, code int) error {
	exit, err := c.Wait(g.ctx, container.NotRunning)
	if err != nil {
		return err
	}
	if exit.Code != code {
		return fmt.Errorf("exit %+v, want %d", exit, code)
	}
	if err := until("group gone", func() bool { return !groupExists(group) }); err != nil {
		return err
	}
	return c.Remove(g.ctx, &container.RemoveOptions{Volumes: true})
}

// killPaused kills what is frozen.
func killPaused(g *guest) error {
	c, _, _, group, err := g.start(sleeper("paused"))
	if err != nil {
		return err
	}
	if err := c.Pause(g.ctx); err != nil {
		return err
	}
	if err := c.Signal(g.ctx, "SIGKILL"); err != nil {
		return err
	}
	return g.ended(c, group, 137)
}

// lostShim kills the supervisor: the next to look finds the container's
// processes by their group and ends them.
func lostShim(paused bool) func(g *guest) error {
	return func(g *guest) error {
		c, init, shim, group, err := g.start(sleeper("lost"))
		if err != nil {
			return err
		}
		if paused {
			if err := c.Pause(g.ctx); err != nil {
				return err
			}
		}
		if err := unix.Kill(shim, unix.SIGKILL); err != nil {
			return err
		}
		if err := until("supervisor dead", func() bool { return !alive(shim) }); err != nil {
			return err
		}
		if !alive(init) {
			g.say("note: init died with its supervisor")
		}
		// Its last threads hold its lock for a moment after the first is dead.
		err = until("mended", func() bool {
			report, rerr := g.eng.Recover(g.ctx)
			return rerr == nil && slices.Contains(report.Mended, c.ID())
		})
		if err != nil {
			return err
		}
		if alive(init) || groupExists(group) {
			return fmt.Errorf("after recovery: init alive %v, group %v", alive(init), groupExists(group))
		}
		i, err := c.Inspect(g.ctx)
		if err != nil {
			return err
		}
		if i.Status != container.Exited || i.Exit == nil || !i.Exit.Unknown {
			return fmt.Errorf("status %s, exit %+v", i.Status, i.Exit)
		}
		if err := c.Start(g.ctx); err != nil {
			return fmt.Errorf("start again: %w", err)
		}
		if err := c.Signal(g.ctx, "SIGKILL"); err != nil {
			return err
		}
		return g.ended(c, group, 137)
	}
}

// parallel starts several at once, all with limits.
func parallel(g *guest) error {
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			for range 3 {
				cmd := g.eng.Command(g.ctx, boxImage, "cat", "/sys/fs/cgroup/memory.max")
				cmd.Resources = container.Resources{Memory: 20 << 20, Pids: 10}
				out, err := cmd.Output()
				if err == nil {
					err = want("memory.max", string(out), fmt.Sprintln(20<<20))
				}
				errs[n] = errors.Join(errs[n], explain(err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// parents uses a control group that the program names.
func parents(g *guest) error {
	other := &guest{ctx: g.ctx, out: g.out}
	if err := other.open("/mine/deep"); err != nil {
		return err
	}
	defer other.eng.Close()
	spec := sleeper("parent")
	spec.Resources = container.Resources{Memory: 20 << 20}
	c, _, _, group, err := other.start(spec)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(group, "/mine/deep/amphora-") || groupFile(group, "memory.max") != fmt.Sprint(20<<20) {
		return fmt.Errorf("group %s, memory.max %s", group, groupFile(group, "memory.max"))
	}
	if err := c.Stop(g.ctx, nil); err != nil {
		return err
	}
	return g.ended(c, group, 7)
}

// dropGroups removes empty groups below and with dir.
func dropGroups(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			dropGroups(dir + "/" + e.Name())
		}
	}
	unix.Rmdir(dir)
}
