//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/amphora-go/amphora/container"
	"golang.org/x/sys/unix"
)

// common is what holds wherever the containers' groups are.
var common = []step{
	{"output and exit code", output},
	{"limits", limited},
	{"out of memory", oom},
	{"out of memory, not the first process", oomChild},
	{"pids", pids},
	{"devices", devices},
	{"io weight", weight},
	{"exec, pause, resume, stop", life},
	{"kill while paused", killPaused},
	{"killed supervisor", lostShim(false)},
	{"killed supervisor of a paused container", lostShim(true)},
	{"parallel starts", parallel},
}

// plain is the machine without systemd: groups are ours to make.
func plain(g *guest) error {
	if err := g.open(""); err != nil {
		return err
	}
	steps := []step{{"check", check}, {"import", importBox}}
	steps = append(steps, common...)
	g.all(append(steps,
		step{"21 layers by mount(2)", layers},
		step{"control group parent", parents},
		step{"SCTP", sctp},
		step{"program in an occupied group", child("occupied", false)},
		step{"program in a control group namespace", child("occupied", true)},
		step{"program in a leaf, parent given", child("leaf", true)},
		step{"nothing left", nothingLeft},
	))
	return nil
}

// child runs this program again inside a group that no other process is in,
// and with namespace as a container's program sees it: as the root.
func child(mode string, namespace bool) func(g *guest) error {
	return func(g *guest) error {
		dir := hierarchy + "/prog"
		defer dropGroups(dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		group, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer group.Close()
		// Without the parent's controllers there is nothing to hand on.
		if err := os.WriteFile(hierarchy+"/cgroup.subtree_control", []byte("+memory +pids +cpu"), 0); err != nil {
			return err
		}
		cmd := exec.CommandContext(g.ctx, "/proc/self/exe", mode)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
		if namespace {
			cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS
			cmd.Env = append(os.Environ(), "NAMESPACE=1")
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// remount shows the control group namespace's own hierarchy.
func remount() error {
	if os.Getenv("NAMESPACE") == "" {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Unmount(hierarchy, unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Mount("cgroup2", hierarchy, "cgroup2", 0, "")
}

// occupied is a program in a group that the kernel lets no controllers pass
// through, because the program itself is in it.
func occupied(g *guest) error {
	if err := remount(); err != nil {
		return err
	}
	if err := g.open(""); err != nil {
		return err
	}
	findings, err := g.eng.Check(g.ctx)
	if err != nil {
		return err
	}
	said := false
	for _, f := range findings {
		g.say("occupied check: %v", f)
		said = said || f.Name == "cgroup controller memory"
	}
	if !said {
		return errors.New("memory cannot be limited, and Check does not say so")
	}
	out, err := g.eng.Command(g.ctx, boxImage, "echo", "no limits").Output()
	if err != nil {
		return explain(err)
	}
	if err := want("output", string(out), "no limits\n"); err != nil {
		return err
	}
	if err := life(g); err != nil {
		return fmt.Errorf("life: %w", err)
	}
	for _, r := range []container.Resources{{Memory: 20 << 20}, {Pids: 9}, {CPUs: 0.5}, {CPUSet: "1"}} {
		cmd := g.eng.Command(g.ctx, boxImage, "true")
		cmd.Resources = r
		err := cmd.Run()
		g.say("occupied: %v", err)
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "control group") {
			return fmt.Errorf("limits %+v were not refused by name: %v", r, err)
		}
	}
	return nil
}

// leaf is the cure: the program moves to a group beside that of its
// containers.
func leaf(g *guest) error {
	if err := remount(); err != nil {
		return err
	}
	if err := os.Mkdir(hierarchy+"/main", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(hierarchy+"/main/cgroup.procs", []byte("0"), 0); err != nil {
		return err
	}
	if err := g.open("/"); err != nil {
		return err
	}
	if err := check(g); err != nil {
		return err
	}
	cmd := g.eng.Command(g.ctx, boxImage, "cat", "/sys/fs/cgroup/memory.max")
	cmd.Resources = container.Resources{Memory: 20 << 20}
	out, err := cmd.Output()
	if err != nil {
		return explain(err)
	}
	return want("memory.max", string(out), fmt.Sprintln(20<<20))
}
