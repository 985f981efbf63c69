package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/logs"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/runtime"
	"github.com/amphora-go/amphora/internal/seccomp"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/volumes"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var errEnded = fault.ErrNotRunning

func nameBytes(name string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(name + "\x00")) }

// exitCode is what the command line ends with when a start failed: Docker's
// 127 for a command that is missing, 126 for one that cannot run, else 125.
func exitCode(err error) int {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return 127
	case errors.Is(err, os.ErrPermission) && !errors.Is(err, errors.ErrUnsupported):
		return 126
	}
	return 125
}

// mount puts the container's root at rootfs in this mount namespace, which is
// ours alone: when shim and init are dead the kernel unmounts it.
func (s *shim) mount() error {
	// The mount that contains our mountpoints must not pass them on to the host.
	if err := containing(s.root.Path(s.c.ID)); err != nil {
		return err
	}
	for _, img := range s.cfg.Images {
		if err := os.Mkdir(img.Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := overlay.Mount(img.Dir, overlay.Layers{Lower: s.root.Layers(img.Layers)}); err != nil {
			return err
		}
	}
	s.rootfs = s.root.Path(s.c.ID, "rootfs")
	if s.cfg.Build != nil {
		return s.mountBuild(s.cfg.Build)
	}
	if s.c.Rootfs != "" || s.c.Copy {
		if s.c.Rootfs != "" {
			s.rootfs = s.c.Rootfs
		}
		return nil
	}
	if err := os.Mkdir(s.rootfs, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	l := overlay.Layers{Lower: s.root.Layers(s.c.Layers), Upper: s.root.Path(s.c.ID, "upper"), Work: s.root.Path(s.c.ID, "work"), Volatile: s.cfg.Volatile}
	return overlay.Mount(s.rootfs, l)
}

// containing makes the mount on which path lies a slave: mounts of the host
// still arrive, ours do not leave.
func containing(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		err := unix.Mount("", dir, "", unix.MS_SLAVE, "")
		if err == nil || dir == "/" {
			return os.NewSyscallError("mount(MS_SLAVE)", err)
		}
		if !errors.Is(err, unix.EINVAL) { // EINVAL: no mountpoint
			return &os.PathError{Op: "mount(MS_SLAVE)", Path: dir, Err: err}
		}
	}
}

// startInit starts the container's first process on streams of its own and
// connects those of the launch request to it. It runs on the main goroutine.
func (s *shim) startInit(files []*os.File) error {
	if err := s.canLimit(); err != nil {
		return err
	}
	spec, err := s.spec()
	if err != nil {
		return err
	}
	filter, err := s.filter()
	if err != nil {
		return err
	}
	step.At("start.prepared")
	box, err := runtime.Create(&runtime.Config{StateDir: s.root.RuntimeDir(), ID: s.c.ID, Spec: spec, Seccomp: filter, Reaper: s.cfg.Init})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.box = box
	run := *s.run
	s.mu.Unlock()
	step.At("start.created")
	io, err := s.streams(files)
	if err != nil {
		return err
	}
	p := &runtime.Process{Spec: spec.Process}
	finish, err := io.prepare(p, s.c.Stdin)
	if err != nil {
		return err
	}
	running, err := box.Start(p, func(pid int) error {
		step.At("start.fifo")
		if err := s.checkLimits(); err != nil {
			return err
		}
		st, err := proc.ReadStat(pid)
		if err != nil {
			return err
		}
		run.Pid, run.PidStart, run.Started = pid, st.StartTime, time.Now().UTC()
		if s.cfg.Health != nil {
			run.Health = record.HealthStarting
		}
		if err := s.root.Started(context.Background(), s.current(), &run); err != nil {
			return err
		}
		step.At("start.recorded")
		return nil
	})
	s.mu.Lock()
	*s.run = run // its number says whether the start is in the log
	s.mu.Unlock()
	if err := errors.Join(err, finish(err == nil)); err != nil {
		if running != nil { // only its terminal failed
			running.Signal(unix.SIGKILL)
			running.Wait()
		}
		io.finish()
		return err
	}
	s.mu.Lock()
	s.init, s.stdio, s.over, s.runOver = running, io, false, make(chan struct{})
	over := s.runOver
	s.mu.Unlock()
	if s.cfg.Health != nil {
		go s.watchHealth(over)
	}
	return s.wires.serve()
}

// current is the container's record as it is now: its name may have changed
// since the start.
func (s *shim) current() *record.Container {
	if c, err := s.root.Load(s.c.ID); err == nil {
		return c
	}
	return s.c
}

// streams makes the fan-out of the container's output, with the pipes that
// came with the launch request as lossless readers.
func (s *shim) streams(files []*os.File) (*stdio, error) {
	stdout := &fanout{name: logs.Stdout, log: s.logOutput, flush: s.flushLog}
	stderr := stdout
	if !s.c.TTY {
		stderr = &fanout{name: logs.Stderr, log: s.logOutput, flush: s.flushLog}
	}
	io := newStdio(stdout, stderr)
	io.once = s.cfg.StdinOnce
	in, _, err := io.connect(files, true, nil)
	if in != nil {
		io.input = append(io.input, in)
	}
	return io, err
}

// connect gives pipes of a client (stdin, stdout, stderr; nil for none) to the
// streams. The caller feeds the returned stdin.
func (s *stdio) connect(files []*os.File, lossless bool, closed func(string)) (in *os.File, sinks []*sink, err error) {
	for i, o := range []*fanout{nil, s.stdout, s.stderr} {
		if i >= len(files) || files[i] == nil {
			continue
		}
		f, err := pollable(files[i])
		if err != nil {
			return in, sinks, err
		}
		if o == nil {
			in = f
			continue
		}
		sink := &sink{f: f, lossless: lossless, closed: closed}
		sinks = append(sinks, sink)
		o.add(sink)
	}
	return in, sinks, nil
}

// prepare fills in the process's ends. The returned function closes our
// copies of them, and begins to feed stdin if the process runs.
func (s *stdio) prepare(p *runtime.Process, stdin bool) (func(started bool) error, error) {
	if !p.Spec.Terminal {
		in, out, errOut, err := s.pipes(stdin)
		if err != nil {
			return nil, err
		}
		p.Stdin, p.Stdout, p.Stderr = in, out, errOut
		return func(started bool) error {
			for _, f := range []*os.File{in, out, errOut} {
				if f != nil {
					f.Close()
				}
			}
			s.feedAll(started)
			return nil
		}, nil
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	p.Console = theirs
	return func(started bool) error {
		theirs.Close()
		defer ours.Close()
		if !started {
			s.feedAll(false)
			return nil
		}
		master, err := receiveFile(ours)
		if err != nil {
			return fmt.Errorf("receive the terminal: %w", err)
		}
		if err := s.terminal(master); err != nil {
			return err
		}
		s.feedAll(true)
		return nil
	}, nil
}

// feedAll starts copying from the clients that were there at the start.
func (s *stdio) feedAll(started bool) {
	for _, f := range s.input {
		if started {
			go s.feed(f)
		} else {
			f.Close()
		}
	}
	s.input = nil
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console"), nil
}

func receiveFile(sock *os.File) (*os.File, error) {
	buf, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(int(sock.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) == 0 {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// filter reads the compiled seccomp filter.
func (s *shim) filter() (runtime.Filter, error) {
	if s.cfg.Seccomp == "" {
		return runtime.Filter{}, nil
	}
	b, err := os.ReadFile(s.cfg.Seccomp)
	if err != nil {
		return runtime.Filter{}, fault.Opaque(err)
	}
	prog, flags, err := seccomp.Decode(b)
	if err != nil {
		return runtime.Filter{}, fmt.Errorf("%s: %w", s.cfg.Seccomp, err)
	}
	return runtime.Filter{Program: prog, Flags: flags}, nil
}

// spec completes the compiled configuration with what only the mounted root
// can tell: users, files, contents of fresh volumes.
func (s *shim) spec() (*specs.Spec, error) {
	spec := s.cfg.OCI
	spec.Root.Path = s.rootfs
	spec.Linux.CgroupsPath = s.c.Cgroup
	if s.netns != nil {
		path := s.netnsPath()
		for i := range spec.Linux.Namespaces {
			if spec.Linux.Namespaces[i].Type == specs.NetworkNamespace {
				spec.Linux.Namespaces[i].Path = path
			}
		}
	}
	s.wires.fillPorts(spec.Process.Args)
	s.wires.fillPorts(spec.Process.Env)
	if s.launch.Secrets != nil {
		spec.Process.Env = append(spec.Process.Env, s.launch.Secrets.Env...)
	}
	if err := s.copyUp(); err != nil {
		return nil, err
	}
	if err := s.files(spec); err != nil {
		return nil, err
	}
	if s.cfg.Customed {
		return spec, nil
	}
	return spec, s.user(spec.Process, s.cfg.User, s.cfg.Groups)
}

// copyUp fills fresh volumes from the image.
func (s *shim) copyUp() error {
	for _, up := range s.cfg.CopyUp {
		if err := s.fill(up); err != nil {
			return fmt.Errorf("fill the volume at %s from the image: %w", up.Target, err)
		}
	}
	return nil
}

func (s *shim) fill(up record.CopyUp) error {
	from := "" // only finishes what a killed supervisor began
	if !up.Finish {
		src, err := s.openInRoot(up.Target, unix.O_PATH|unix.O_DIRECTORY)
		switch {
		case err == nil:
			defer src.Close()
			from = fmt.Sprintf("/proc/self/fd/%d", src.Fd())
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR): // else the image has nothing there
			return err
		}
	}
	return volumes.CopyUp(context.Background(), from, up.Source)
}

// openInRoot opens a path of the container; links stay inside its root.
func (s *shim) openInRoot(path string, flags int) (*os.File, error) {
	root, err := unix.Open(s.rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.rootfs, Err: err}
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, strings.TrimLeft(path, "/"), how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
