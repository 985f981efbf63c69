//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/container"
)

// explain adds what the command wrote to stderr.
func explain(err error) error {
	var ee *container.ExitError
	if errors.As(err, &ee) && len(ee.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, ee.Stderr)
	}
	return err
}

func output(g *guest) error {
	out, err := g.eng.Command(g.ctx, boxImage, "sh", "-c", "echo hello; exit 3").Output()
	if container.Code(err) != 3 {
		return fmt.Errorf("exit code: %w", explain(err))
	}
	return want("output", string(out), "hello\n")
}

// limited asks for every limit and reads what is in force, from inside.
func limited(g *guest) error {
	cmd := g.eng.Command(g.ctx, boxImage, "sh", "-c", `cd /sys/fs/cgroup; for f in memory.max memory.swap.max memory.low pids.max cpu.max cpu.weight cpuset.cpus; do echo $f $(cat $f); done`)
	cmd.Resources = container.Resources{Memory: 32 << 20, MemoryReservation: 16 << 20, CPUs: 0.5, CPUShares: 512, CPUSet: "1", Pids: 9}
	out, err := cmd.Output()
	if err != nil {
		return explain(err)
	}
	g.say("limits: %s", strings.TrimSpace(string(out)))
	for _, line := range []string{"memory.max 33554432", "memory.swap.max 33554432", "memory.low 16777216", "pids.max 9", "cpu.max 50000 100000", "cpuset.cpus 1"} {
		if !strings.Contains(string(out), line+"\n") {
			err = errors.Join(err, fmt.Errorf("not in force: %s", line))
		}
	}
	if strings.Contains(string(out), "cpu.weight 100\n") {
		err = errors.Join(err, errors.New("cpu.weight is the default"))
	}
	return err
}

// oom fills more memory than there may be.
func oom(g *guest) error {
	cmd := g.eng.Command(g.ctx, boxImage, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
	cmd.Resources = container.Resources{Memory: 16 << 20}
	err := cmd.Run()
	var ee *container.ExitError
	if !errors.As(err, &ee) {
		return fmt.Errorf("it was not killed: %w", err)
	}
	if !ee.OOMKilled || ee.Code != 137 {
		return fmt.Errorf("exit %+v", ee.Exit)
	}
	return nil
}

// oomChild loses a process that is not the first: the container goes on.
func oomChild(g *guest) error {
	cmd := g.eng.Command(g.ctx, boxImage, "sh", "-c", `dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo status $?`)
	cmd.Resources = container.Resources{Memory: 16 << 20}
	out, err := cmd.Output()
	if err != nil {
		return explain(err)
	}
	return want("output", string(out), "status 137\n")
}

func pids(g *guest) error {
	cmd := g.eng.Command(g.ctx, boxImage, "sh", "-c", `for i in $(seq 20); do sleep 100 & done; echo all`)
	cmd.Resources = container.Resources{Pids: 8}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "can't fork") {
		return fmt.Errorf("20 processes ran under a limit of 8: %q, %v", out, err)
	}
	return nil
}

// devices opens one that is not allowed: on v2 an eBPF program says no.
func devices(g *guest) error {
	out, err := g.eng.Command(g.ctx, boxImage, "sh", "-c",
		`mknod /tmp/kmsg c 1 11 && mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero | grep -c . ; cat /dev/null && cat /tmp/kmsg`).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/tmp/kmsg': Operation not permitted") && !strings.Contains(string(out), "/tmp/kmsg: Operation not permitted") {
		return fmt.Errorf("%q, %v", out, err)
	}
	if strings.Contains(string(out), "zero': Operation") {
		return fmt.Errorf("an allowed device was refused: %q", out)
	}
	return nil
}

// weight is either in force or refused.
func weight(g *guest) error {
	cmd := g.eng.Command(g.ctx, boxImage, "sh", "-c", "cat /sys/fs/cgroup/io*weight")
	cmd.Resources = container.Resources{BlkioWeight: 300}
	out, err := cmd.Output()
	g.say("io weight: %q, %v", out, err)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return explain(err)
	}
	return nil
}
