//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/container"
	"golang.org/x/sys/unix"
)

const (
	readyFile = "/run/first-is-ready"
	firstUnit = "amphora-first.service" // runs "guest service"
	survivors = 4
)

// systemd is the machine with systemd: groups are in a scope that it delegates.
// This program is a unit itself.
func systemd(g *guest) error {
	if err := g.open(""); err != nil {
		return err
	}
	steps := []step{
		{"check", check}, {"import", importBox},
		{"containers outlive the unit that started them", outlive},
		{"found and stopped by another unit", stopAll},
		{"scope gone with the last container", scopeGone},
	}
	steps = append(steps, common...)
	g.all(append(steps,
		step{"scope made anew each time", churn},
		step{"control group parent", parents},
		step{"daemon-reload", reload},
		step{"killed owner in a unit", ownerKilled},
		step{"scope stopped by systemctl", stopScope},
		step{"without a bus", withoutBus},
		step{"nothing left", nothingLeft},
	))
	return nil
}

func systemctl(arg ...string) (string, error) {
	out, err := exec.Command("systemctl", arg...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("systemctl %v: %w: %s", arg, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// service is the program of the first unit: several supervisors ask for the
// scope at once. It stays until it is stopped.
func service(g *guest) error {
	if err := g.open(""); err != nil {
		return err
	}
	errs := make([]error, survivors)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			spec := sleeper(fmt.Sprint("survivor", n))
			spec.Resources = container.Resources{Memory: 20 << 20, Pids: 10}
			_, _, _, _, errs[n] = g.start(spec)
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	if werr := os.WriteFile(readyFile+".new", []byte(text), 0o644); werr != nil {
		return werr
	}
	if werr := os.Rename(readyFile+".new", readyFile); werr != nil {
		return werr
	}
	return wait(err)
}

// owner is the program of a transient unit: its container shall not outlive it.
func owner(g *guest) error {
	if err := g.open(""); err != nil {
		return err
	}
	spec := sleeper("owned")
	cmd := g.eng.Command(g.ctx, boxImage)
	cmd.Spec = *spec
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(readyFile, []byte("ok"), 0o644); err != nil {
		return err
	}
	return wait(nil)
}

func wait(err error) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	<-c
	return err
}

func ready() error {
	err := until("first unit ready", func() bool { _, err := os.Stat(readyFile); return err == nil })
	if err != nil {
		status, _ := systemctl("status", "--no-pager", firstUnit)
		return fmt.Errorf("%w: %s", err, status)
	}
	b, err := os.ReadFile(readyFile)
	os.Remove(readyFile)
	if err == nil && string(b) != "ok" {
		err = errors.New(string(b))
	}
	return err
}

func outlive(g *guest) error {
	if out, err := systemctl("start", firstUnit); err != nil {
		status, _ := systemctl("status", "--no-pager", firstUnit)
		return fmt.Errorf("%w %s %s", err, out, status)
	}
	if err := ready(); err != nil {
		return err
	}
	first, err := systemctl("show", "-P", "MainPID", firstUnit)
	if err != nil {
		return err
	}
	for n := range survivors {
		if err := inScope(g, fmt.Sprint("survivor", n)); err != nil {
			return err
		}
	}
	if _, err := systemctl("stop", firstUnit); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/" + first); err == nil {
		return errors.New("the unit's process lives on")
	}
	for n := range survivors {
		if err := inScope(g, fmt.Sprint("survivor", n)); err != nil {
			return fmt.Errorf("after the stop: %w", err)
		}
	}
	return nil
}

// inScope checks that systemd knows the group in which the container is.
func inScope(g *guest, name string) error {
	c, err := g.eng.Containers().Get(g.ctx, name)
	if err != nil {
		return err
	}
	init, shim, group, err := g.processes(c)
	if err != nil {
		return err
	}
	base := path.Dir(group)
	if !strings.HasPrefix(base, "/system.slice/amphora-") || !strings.HasSuffix(base, ".scope") {
		return fmt.Errorf("%s is in %s", name, group)
	}
	if in := groupFile(base, "cgroup.procs"); in != "" {
		return fmt.Errorf("processes in the scope itself: %q", in)
	}
	if v := groupFile(group, "memory.max"); v != fmt.Sprint(20<<20) {
		return fmt.Errorf("memory.max of %s: %s", name, v)
	}
	if name != "survivor0" {
		return nil
	}
	g.say("%s: init %d, supervisor %d, group %s", name, init, shim, group)
	show, err := systemctl("show", "-p", "ActiveState,Delegate,DelegateControllers,TasksMax,ControlGroup,Slice,OOMPolicy,Transient", path.Base(base))
	if err != nil {
		return err
	}
	g.say("scope: %s", show)
	for _, line := range []string{"ActiveState=active", "Delegate=yes", "ControlGroup=" + base, "TasksMax=infinity"} {
		if !strings.Contains(show, line) {
			return fmt.Errorf("the scope does not say %s: %s", line, show)
		}
	}
	return nil
}

// stopAll is a second program that finds what the first one started.
func stopAll(g *guest) error {
	for n := range survivors {
		c, err := g.eng.Containers().Get(g.ctx, fmt.Sprint("survivor", n))
		if err != nil {
			return err
		}
		_, _, group, err := g.processes(c)
		if err != nil {
			return err
		}
		out, err := c.Command(g.ctx, "echo", "exec").Output()
		if err != nil || string(out) != "exec\n" {
			return fmt.Errorf("exec: %q, %w", out, err)
		}
		if err := c.Stop(g.ctx, nil); err != nil {
			return err
		}
		if err := g.ended(c, group, 7); err != nil {
			return err
		}
	}
	return nil
}

// scopes lists what systemd and the hierarchy have of ours.
func scopes() string {
	units, _ := systemctl("list-units", "--all", "--plain", "--no-legend", "amphora-*.scope")
	entries, _ := os.ReadDir(hierarchy + "/system.slice")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "amphora-") && strings.HasSuffix(e.Name(), ".scope") {
			units += " " + e.Name()
		}
	}
	return strings.TrimSpace(units)
}

func scopeGone(g *guest) error {
	err := until("no scope", func() bool { return scopes() == "" })
	if err != nil {
		return fmt.Errorf("%w: %s", err, scopes())
	}
	return nil
}

// churn ends the last container, and with it the scope, while the next starts.
func churn(g *guest) error {
	for range 15 {
		cmd := g.eng.Command(g.ctx, boxImage, "cat", "/sys/fs/cgroup/memory.max")
		cmd.Resources = container.Resources{Memory: 20 << 20}
		out, err := cmd.Output()
		if err == nil {
			err = want("memory.max", string(out), fmt.Sprintln(20<<20))
		}
		if err != nil {
			return explain(err)
		}
	}
	return nil
}

// reload makes systemd look at all units again: it must leave the groups below
// the scope alone.
func reload(g *guest) error {
	spec := sleeper("reload")
	spec.Resources = container.Resources{Memory: 20 << 20, CPUs: 0.5}
	c, _, _, group, err := g.start(spec)
	if err != nil {
		return err
	}
	if _, err := systemctl("daemon-reload"); err != nil {
		return err
	}
	if _, err := systemctl("daemon-reexec"); err != nil {
		return err
	}
	if out, err := exec.Command("systemd-run", "--wait", "--collect", "-p", "MemoryMax=64M", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("systemd-run: %w: %s", err, out)
	}
	if m, q := groupFile(group, "memory.max"), groupFile(group, "cpu.max"); m != fmt.Sprint(20<<20) || q != "50000 100000" {
		return fmt.Errorf("limits are now %s, %s", m, q)
	}
	if _, _, _, err := g.processes(c); err != nil {
		return err
	}
	if err := c.Stop(g.ctx, nil); err != nil {
		return err
	}
	return g.ended(c, group, 7)
}

// ownerKilled kills a unit whose program owns a container.
func ownerKilled(g *guest) error {
	if out, err := exec.Command("systemd-run", "--collect", "--unit=amphora-owner", "/usr/bin/guest", "owner").CombinedOutput(); err != nil {
		return fmt.Errorf("systemd-run: %w: %s", err, out)
	}
	if err := ready(); err != nil {
		return err
	}
	if len(containerGroups()) != 1 {
		return fmt.Errorf("groups: %v", containerGroups())
	}
	if _, err := systemctl("kill", "-s", "KILL", "amphora-owner"); err != nil {
		return err
	}
	return until("owned container gone", func() bool {
		infos, err := g.eng.Containers().List(g.ctx, nil)
		return err == nil && len(infos) == 0 && len(containerGroups()) == 0
	})
}

// stopScope is what a shutdown does: supervisors end their containers.
func stopScope(g *guest) error {
	c, _, _, group, err := g.start(sleeper("shutdown"))
	if err != nil {
		return err
	}
	if _, err := systemctl("stop", path.Base(path.Dir(group))); err != nil {
		return err
	}
	if err := g.ended(c, group, 7); err != nil {
		return err
	}
	return scopeGone(g)
}

// withoutBus stops the message bus: systemd has a socket of its own.
func withoutBus(g *guest) error {
	if _, err := systemctl("stop", "dbus.socket", "dbus.service"); err != nil {
		return err
	}
	if state, _ := systemctl("is-active", "dbus.socket", "dbus.service"); state != "inactive\ninactive" {
		return fmt.Errorf("the bus is still there: %q", state)
	}
	if err := scopeGone(g); err != nil {
		return err
	}
	spec := sleeper("survivor0")
	spec.Resources = container.Resources{Memory: 20 << 20}
	c, _, _, group, err := g.start(spec)
	if err != nil {
		return err
	}
	if err := inScope(g, "survivor0"); err != nil {
		return err
	}
	if err := c.Stop(g.ctx, nil); err != nil {
		return err
	}
	return g.ended(c, group, 7)
}
