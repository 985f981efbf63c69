//go:build linux

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/cgroup"
	"golang.org/x/sys/unix"
)

// group reads a value of the container's control group.
func group(t *testing.T, b *bench, c *Container, file string) string {
	t.Helper()
	base, err := b.group()
	if err != nil {
		t.Fatal(err)
	}
	v, err := cgroup.Read(filepath.Join(base, c.ID()), file)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLimitsAreInForce(t *testing.T) {
	if cgroup.Unified() {
		t.Skip("the names of these files are those of cgroup v1")
	}
	b := newBench(t)
	c := b.start(t, Spec{Resources: Resources{Memory: 64 << 20, MemoryReservation: 32 << 20, CPUs: 1.5, CPUShares: 512, CPUSet: "0", Pids: 20}}, "pause")
	for file, want := range map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432", "cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000",
		"cpu.shares": "512", "cpuset.cpus": "0", "pids.max": "20",
	} {
		if got := group(t, b, c, file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	out := execOutput(t, c, "forkbomb", "50")
	var n int
	if _, err := fmt.Sscanf(out, "forked %d", &n); err != nil || n < 1 || n >= 20 {
		t.Errorf("with a limit of 20 processes: %q", out)
	}
}

func TestOutOfMemory(t *testing.T) {
	b := newBench(t)
	for _, init := range []bool{false, true} {
		c := b.start(t, Spec{Init: init, Resources: Resources{Memory: 32 << 20, MemorySwap: swap(32 << 20)}}, "memhog", "200m")
		if exit := wait(t, c); exit.Code != 137 || !exit.OOMKilled {
			t.Errorf("init %v: exit %+v", init, exit)
		}
	}
}

// swap is the limit where it can be set.
func swap(n int64) int64 {
	if cgroup.CanLimitSwap() {
		return n
	}
	return 0
}

// spare is a device that containers do not get by default and that may be
// opened without privileges: device and numbers.
func spare(t *testing.T) (path string, major, minor string) {
	for _, path := range []string{"/dev/fuse", "/dev/loop-control", "/dev/net/tun"} {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			return path, fmt.Sprint(unix.Major(uint64(st.Rdev))), fmt.Sprint(unix.Minor(uint64(st.Rdev)))
		}
	}
	t.Skip("this machine has none of the devices tun, fuse and loop-control")
	return "", "", ""
}

func TestProcessSettings(t *testing.T) {
	b := newBench(t)
	dev, major, minor := spare(t)
	c := b.start(t, Spec{Resources: Resources{
		ShmSize: 3 << 20, OOMScoreAdj: 321,
		Ulimits: []Ulimit{{"nofile", 200, 200}, {"stack", 1 << 20, 2 << 20}, {"core", 0, 0}},
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "9000"},
		Devices: []Device{{Path: dev, Target: "/dev/renamed", Permissions: "r"}, {Path: dev, Target: "/dev/dir/again", Permissions: "r"}},
	}}, "pause")
	limits := execOutput(t, c, "ulimit")
	for _, want := range []string{"nofile 200 200", "stack 1048576 2097152", "core 0 0"} {
		if !strings.Contains(limits, want+"\n") {
			t.Errorf("no %q in %q", want, limits)
		}
	}
	for cmd, want := range map[string]string{
		"cat /proc/1/oom_score_adj":                  "321",
		"cat /proc/self/oom_score_adj":               "321",
		"sysctl net.ipv4.ip_unprivileged_port_start": "net.ipv4.ip_unprivileged_port_start = 77",
		"sysctl kernel.msgmax":                       "kernel.msgmax = 9000",
	} {
		if got := execOutput(t, c, strings.Fields(cmd)...); got != want {
			t.Errorf("%s: %q, want %q", cmd, got, want)
		}
	}
	if m := execOutput(t, c, "mount"); !strings.Contains(m, "/dev/shm ") || !strings.Contains(m, "size=3072k") {
		t.Errorf("mounts %s", m)
	}
	if got := execOutput(t, c, "stat", "/dev/renamed"); !strings.HasPrefix(got, "char ") || !strings.Contains(got, " "+major+":"+minor+" ") {
		t.Errorf("device %q", got)
	}
	execOutput(t, c, "test", "-e", "/dev/dir/again")
	can := func(c *Container) bool {
		err := c.Command(t.Context(), "sh", "-c", "rm -f /x; mknod /x c "+major+" "+minor+" && chmod 666 /x && test -w /x").Run()
		if err != nil && Code(err) != 1 {
			t.Error(err)
		}
		return err == nil
	}
	if can(c) {
		t.Error("a device that may only be read can be written")
	}
	if can(b.start(t, Spec{}, "pause")) {
		t.Error("a device that nobody gave can be used")
	}
	if !can(b.start(t, Spec{Resources: Resources{Devices: []Device{{Path: dev}}}}, "pause")) {
		t.Error("a device that was given cannot be used")
	}
	execOutput(t, c, "sh", "-c", "test -e /dev/null && test -e /dev/zero && test -e /dev/random && test -e /dev/tty && test -e /dev/ptmx")
}

func TestImpossibleLimits(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		spec Spec
		text string
		kind error
	}{
		{"memory", Spec{Resources: Resources{Memory: 1 << 20}}, "memory limit 1048576", fs.ErrInvalid},
		{"negative memory", Spec{Resources: Resources{Memory: -1}}, "memory", fs.ErrInvalid},
		{"swap below memory", Spec{Resources: Resources{Memory: 32 << 20, MemorySwap: 16 << 20}}, "memory and swap", fs.ErrInvalid},
		{"swap alone", Spec{Resources: Resources{MemorySwap: 16 << 20}}, "memory and swap", fs.ErrInvalid},
		{"reservation", Spec{Resources: Resources{Memory: 32 << 20, MemoryReservation: 64 << 20}}, "reservation", fs.ErrInvalid},
		{"cpus", Spec{Resources: Resources{CPUs: 10000}}, "cpus 10000", fs.ErrInvalid},
		{"few cpus", Spec{Resources: Resources{CPUs: 0.001}}, "cpus 0.001", fs.ErrInvalid},
		{"shares", Spec{Resources: Resources{CPUShares: 1}}, "shares 1", fs.ErrInvalid},
		{"cpuset", Spec{Resources: Resources{CPUSet: "999"}}, "999", fs.ErrInvalid},
		{"malformed cpuset", Spec{Resources: Resources{CPUSet: "a-b"}}, "a-b", fs.ErrInvalid},
		{"memory nodes", Spec{Resources: Resources{CPUSetMems: "99"}}, "99", fs.ErrInvalid},
		{"pids", Spec{Resources: Resources{Pids: -5}}, "pids limit -5", fs.ErrInvalid},
		{"blkio", Spec{Resources: Resources{BlkioWeight: 5}}, "weight 5", fs.ErrInvalid},
		{"oom score", Spec{Resources: Resources{OOMScoreAdj: 2000}}, "2000", fs.ErrInvalid},
		{"shm", Spec{Resources: Resources{ShmSize: -1}}, "shm", fs.ErrInvalid},
		{"ulimit", Spec{Resources: Resources{Ulimits: []Ulimit{{"nosuch", 1, 1}}}}, "nosuch", fs.ErrInvalid},
		{"ulimit order", Spec{Resources: Resources{Ulimits: []Ulimit{{"nofile", 5, 1}}}}, "nofile", fs.ErrInvalid},
		{"sysctl", Spec{Resources: Resources{Sysctls: map[string]string{"vm.swappiness": "1"}}}, "vm.swappiness", fs.ErrInvalid},
		{"sysctl in disguise", Spec{Resources: Resources{Sysctls: map[string]string{"net/../vm/swappiness": "1"}}}, "swappiness", fs.ErrInvalid},
		{"device", Spec{Resources: Resources{Devices: []Device{{Path: "/dev/nosuch"}}}}, "/dev/nosuch", fs.ErrInvalid},
		{"no device", Spec{Resources: Resources{Devices: []Device{{Path: "/etc/passwd"}}}}, "/etc/passwd", fs.ErrInvalid},
		{"device permissions", Spec{Resources: Resources{Devices: []Device{{Path: "/dev/null", Permissions: "x"}}}}, `"x"`, fs.ErrInvalid},
		{"capability", Spec{Security: Security{CapAdd: []string{"NOSUCH"}}}, "NOSUCH", fs.ErrInvalid},
		{"seccomp", Spec{Security: Security{Seccomp: "{"}}, "seccomp", fs.ErrInvalid},
		{"stop signal", Spec{Stop: Stop{Signal: "SIGNOSUCH"}}, "SIGNOSUCH", fs.ErrInvalid},
		{"restart", Spec{Restart: Restart{Policy: "sometimes"}}, "sometimes", fs.ErrInvalid},
		{"retries", Spec{Restart: Restart{Policy: "always", MaxRetries: 3}}, "retries", fs.ErrInvalid},
		{"restart and removal", Spec{AutoRemove: true, Restart: Restart{Policy: "always"}}, "always", fs.ErrInvalid},
		{"log driver", Spec{Log: Log{Driver: "syslog"}}, "syslog", errors.ErrUnsupported},
		{"log files", Spec{Log: Log{MaxFile: 3}}, "size", fs.ErrInvalid},
		{"name", Spec{Name: "a/b"}, "a/b", fs.ErrInvalid},
		{"short name", Spec{Name: "a"}, `"a"`, fs.ErrInvalid},
		{"hostname", Spec{Hostname: "a b"}, "a b", fs.ErrInvalid},
		{"env", Spec{Process: Process{Env: []string{"=x"}}}, "=x", fs.ErrInvalid},
		{"extra host", Spec{ExtraHosts: []string{"x"}}, `"x"`, fs.ErrInvalid},
		{"dns", Spec{DNS: DNS{Servers: []string{"x"}}}, `"x"`, fs.ErrInvalid},
		{"dir", Spec{Process: Process{Dir: "relative"}}, "relative", fs.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.try(t, tt.spec, "true")
			is(t, err, tt.kind)
			says(t, err, tt.text)
		})
	}
	if infos, err := b.List(t.Context(), nil); err != nil || len(infos) != 0 {
		t.Errorf("left: %d containers, %v", len(infos), err)
	}
}

func TestInit(t *testing.T) {
	b := newBench(t)
	if got := b.output(t, Spec{Init: true}, "zombie"); got != "zombies 0" {
		t.Errorf("with a reaper: %q", got)
	}
	if got := b.output(t, Spec{Init: true, Process: Process{Env: []string{"X=y"}, User: "alice"}}, "sh", "-c", "env; id -u; echo pid $$"); !strings.Contains(got, "X=y") ||
		!strings.Contains(got, "HOME=/home/alice") || !strings.Contains(got, "\n1000\n") || strings.HasSuffix(got, "pid 1") {
		t.Errorf("environment with a reaper: %q", got)
	}
	if err := b.command(t, Spec{Init: true}, "exit", "42").Run(); Code(err) != 42 {
		t.Errorf("exit code: %v", err)
	}
	if err := b.command(t, Spec{Init: true}, "nosuch").Run(); Code(err) != 127 {
		t.Errorf("missing command: %v", err)
	}
	out := new(collector)
	c := b.create(t, Spec{Init: true}, "trap", "-x", "8")
	a, err := c.StartAttached(t.Context(), &IO{Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	if err := c.Signal(t.Context(), "HUP"); err != nil {
		t.Fatal(err)
	}
	out.await(t, "got 1 ")
	checkInitFDs(t, inspect(t, c).Pid)
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if exit, err := a.Wait(t.Context()); err != nil || exit.Code != 8 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	tty, err := b.command(t, Spec{Init: true, Process: Process{TTY: true, Width: 33, Height: 11}}, "tty").Output()
	if err != nil || strings.TrimSpace(string(tty)) != "tty /dev/pts/0 11 33" {
		t.Errorf("terminal with a reaper: %q, %v", tty, err)
	}
}
