//go:build cgo

package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/reexec"
	_ "github.com/opencontainers/cgroups/devices" // device rules on cgroup v2 need its eBPF
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Container is a created container. Its methods are for the shim's main
// goroutine unless they say otherwise.
type Container struct {
	c       *libcontainer.Container
	filter  *os.File // sealed memfd for internal/reexec
	seccomp Filter
	conf    *configs.Config // libcontainer's own, not a copy
	group   *group          // nil: libcontainer's
	reaper  bool
	init    *Running
	direct  *direct // nil: all execs are libcontainer's
}

// Running is a started process.
type Running struct {
	p interface {
		Wait() (*os.ProcessState, error)
		Signal(os.Signal) error
	}
	Pid int
}

// logLevel is what libcontainer's C code tells us of: logrus's warnings.
const logLevel = "3"

// Create makes the container's state directory and cgroup objects; no process
// runs yet. Destroy undoes it.
func Create(cfg *Config) (*Container, error) {
	if !reexec.Supported {
		return nil, fault.Unsupported("this program was built without cgo, which libcontainer needs: build it with CGO_ENABLED=1")
	}
	if cfg.Spec.Linux != nil && cfg.Spec.Linux.Seccomp != nil {
		return nil, errors.New("a seccomp profile reached libcontainer; filters are compiled before")
	}
	conf, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: cfg.ID, Spec: cfg.Spec, NoNewKeyring: false})
	if err != nil {
		return nil, err
	}
	if conf.Capabilities, err = hooked(conf.Capabilities); err != nil {
		return nil, err
	}
	lc, err := libcontainer.Create(cfg.StateDir, cfg.ID, conf)
	if err != nil {
		return nil, err
	}
	c := &Container{c: lc, conf: conf, seccomp: cfg.Seccomp, reaper: cfg.Reaper}
	if c.group, err = takeGroup(lc, conf); err == nil {
		c.filter, err = c.orders(c.group, nil)
	}
	if err != nil {
		return nil, errors.Join(err, lc.Destroy())
	}
	return c, nil
}

// orders puts what a process must do before it runs its command where
// internal/reexec finds it.
func (c *Container) orders(join *group, reaper *reexec.Reaper) (*os.File, error) {
	return sealed(reexec.Encode(&reexec.Orders{Groups: join.files(), Program: c.seccomp.Program, Flags: c.seccomp.Flags, Reaper: reaper}))
}

// hooked adds the capability that makes libcontainer call our hook. A process
// without capability sets would skip it, and so run without a filter.
func hooked(caps *configs.Capabilities) (*configs.Capabilities, error) {
	if caps == nil {
		return nil, errors.New("the process has no capability sets; empty ones are allowed, absent ones are not")
	}
	with := func(set []string) []string {
		return append(append(make([]string, 0, len(set)+1), set...), reexec.HookCapability)
	}
	return &configs.Capabilities{
		Bounding:    with(caps.Bounding),
		Effective:   with(caps.Effective),
		Inheritable: with(caps.Inheritable),
		Permitted:   with(caps.Permitted),
		Ambient:     with(caps.Ambient),
	}, nil
}

// sealed puts data where no process can change it.
func sealed(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
	}
	return f, nil
}

// Start starts init up to the point before its execve, checks that the filter
// is in force, and lets it go. ready runs in between; its error stops init.
func (c *Container) Start(p *Process, ready func(pid int) error) (*Running, error) {
	lp, err := c.process(p)
	if err != nil {
		return nil, err
	}
	lp.Init = true
	if c.reaper {
		f, err := c.orders(c.group, &reexec.Reaper{Args: p.Spec.Args, Env: p.Spec.Env})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lp.ExtraFiles = []*os.File{f}
	}
	if err := c.group.make(); err != nil {
		return nil, err
	}
	if err := c.c.Start(lp); err != nil {
		return nil, startError(c.group.explain(err))
	}
	pid, err := lp.Pid()
	if err != nil {
		return nil, err
	}
	c.init = &Running{p: lp, Pid: pid}
	c.direct = c.takeDirect(pid)
	if err := c.release(ready); err != nil {
		lp.Signal(unix.SIGKILL)
		lp.Wait()
		return nil, err
	}
	// What init alone needs would be sent to each exec as well.
	c.conf.Mounts, c.conf.Devices, c.conf.MaskPaths, c.conf.ReadonlyPaths, c.conf.Sysctl = nil, nil, nil, nil, nil
	return c.init, nil
}

func (c *Container) release(ready func(pid int) error) error {
	if err := c.checkSeccomp(c.init.Pid); err != nil {
		return err
	}
	if err := c.group.has(c.init.Pid); err != nil {
		return err
	}
	if err := c.group.limit(); err != nil {
		return err
	}
	if err := ready(c.init.Pid); err != nil {
		return err
	}
	return c.c.Exec()
}

// checkSeccomp is the second lock on the door: the hook says that it
// installed the filter, this reads it from the kernel.
func (c *Container) checkSeccomp(pid int) error {
	if len(c.seccomp.Program) == 0 {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fmt.Errorf("check seccomp: %w", err)
	}
	if !strings.Contains(string(b), "\nSeccomp:\t2\n") {
		return errors.New("the seccomp filter is not in force; the container was not started")
	}
	return nil
}

// Exec starts another process in the running container.
func (c *Container) Exec(p *Process) (*Running, error) {
	if r, done, err := c.execDirect(p); done {
		return r, err
	}
	lp, err := c.process(p)
	if err != nil {
		return nil, err
	}
	if c.group.crowded() {
		// One process joins when the others are done with, at the price of a
		// grace period.
		f, err := c.orders(nil, nil)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lp.ExtraFiles = []*os.File{f}
		defer c.group.lend()()
	}
	if err := c.c.Run(lp); err != nil {
		return nil, startError(c.group.explain(err))
	}
	pid, err := lp.Pid()
	return &Running{p: lp, Pid: pid}, err
}

func (c *Container) process(p *Process) (*libcontainer.Process, error) {
	s := p.Spec
	if len(s.Args) == 0 {
		return nil, fault.Invalid("no command: give one, or use an image that has ENTRYPOINT or CMD")
	}
	var caps *configs.Capabilities
	if s.Capabilities != nil {
		caps = &configs.Capabilities{Bounding: s.Capabilities.Bounding, Effective: s.Capabilities.Effective,
			Inheritable: s.Capabilities.Inheritable, Permitted: s.Capabilities.Permitted, Ambient: s.Capabilities.Ambient}
	}
	caps, err := hooked(caps)
	if err != nil {
		return nil, err
	}
	lp := &libcontainer.Process{
		Args: s.Args, Env: s.Env, Cwd: s.Cwd,
		UID: int(s.User.UID), GID: int(s.User.GID),
		Capabilities:    caps,
		NoNewPrivileges: &s.NoNewPrivileges,
		AppArmorProfile: s.ApparmorProfile,
		Label:           s.SelinuxLabel,
		LogLevel:        logLevel,
		ExtraFiles:      []*os.File{c.filter},
	}
	for _, g := range s.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	if lp.Rlimits, err = rlimits(s.Rlimits); err != nil {
		return nil, err
	}
	if s.Terminal {
		lp.ConsoleSocket = p.Console
		if s.ConsoleSize != nil {
			lp.ConsoleWidth, lp.ConsoleHeight = uint16(s.ConsoleSize.Width), uint16(s.ConsoleSize.Height)
		}
		return lp, nil
	}
	// Assigned one by one: a nil *os.File in an io.Reader would not be nil.
	if p.Stdin != nil {
		lp.Stdin = p.Stdin
	}
	if p.Stdout != nil {
		lp.Stdout = p.Stdout
	}
	if p.Stderr != nil {
		lp.Stderr = p.Stderr
	}
	return lp, nil
}

// startError gives libcontainer's words for a bad command the kinds that
// callers test for.
func startError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "exec: ") && strings.Contains(text, "no such file or directory"):
		return fault.Kind(errNotFound, "%w", fault.Opaque(err))
	case strings.Contains(text, "exec: ") && (strings.Contains(text, "permission denied") || strings.Contains(text, "is a directory")):
		return fault.Kind(os.ErrPermission, "%w", fault.Opaque(err))
	}
	return fault.Opaque(err)
}

// Wait reaps the process. It may run on any goroutine.
func (r *Running) Wait() Exit {
	st, err := r.p.Wait()
	if st == nil {
		var ee interface{ Sys() any }
		if !errors.As(err, &ee) {
			return Exit{Code: 255}
		}
	}
	ws, ok := st.Sys().(syscall.WaitStatus)
	if !ok {
		return Exit{Code: 255}
	}
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return Exit{Code: ws.ExitStatus()}
}

// Signal sends a signal to this process alone. It may run on any goroutine.
func (r *Running) Signal(sig syscall.Signal) error { return r.p.Signal(sig) }

func rlimits(in []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	out := make([]configs.Rlimit, 0, len(in))
	for _, r := range in {
		kind, ok := rlimitTypes[r.Type]
		if !ok {
			return nil, fault.Invalid("unknown ulimit %q", r.Type)
		}
		out = append(out, configs.Rlimit{Type: kind, Hard: r.Hard, Soft: r.Soft})
	}
	return clampRlimits(out), nil
}
