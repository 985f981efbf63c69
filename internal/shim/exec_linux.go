package shim

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/runtime"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/wire"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// handleExec runs a further process. Without a terminal the client's pipes
// are the process's own, and its bytes never pass through here. The
// connection stays open until the process ends; over it the client signals
// and resizes. A client that goes away leaves the process running.
func (s *shim) handleExec(conn *wire.Conn, req *Request, files []*os.File) {
	pipes, err := clientPipes(req.Streams, files)
	if err == nil && req.Exec == nil {
		err = fault.Invalid("an exec request without a process")
	}
	if err != nil {
		wire.CloseAll(files)
		conn.Send(Reply{Error: wire.Pack(err), Code: 125})
		return
	}
	s.answers.Add(1)
	defer s.answers.Done()
	p, io, err := s.exec(req.Exec, pipes)
	if err != nil {
		conn.Send(Reply{Error: wire.Pack(err), Code: exitCode(err)})
		return
	}
	conn.Send(Reply{Pid: p.Pid})
	go func() {
		for {
			var req Request
			more, err := conn.Receive(&req)
			if err != nil {
				return
			}
			wire.CloseAll(more)
			switch req.Op {
			case opSignal:
				p.Signal(syscall.Signal(req.Signal))
			case opResize:
				if io != nil {
					io.resize(req.Width, req.Height)
				}
			}
		}
	}()
	how := p.Wait()
	if io != nil {
		io.drain(func() bool { return true }, nil)
	}
	conn.Send(Reply{Exit: &record.Exit{Code: how.Code, Signal: how.Signal}})
}

// exec starts the process. Only a terminal has streams here.
func (s *shim) exec(x *Exec, pipes []*os.File) (*runtime.Running, *stdio, error) {
	spec, err := s.execSpec(x)
	if err != nil {
		wire.CloseAll(pipes)
		return nil, nil, err
	}
	p := &runtime.Process{Spec: spec, Long: x.Long}
	var io *stdio
	finish := func(bool) error { wire.CloseAll(pipes); return nil }
	if x.TTY {
		out := &fanout{log: discardOutput, flush: func(time.Time) {}}
		io = newStdio(out, out)
		in, _, err := io.connect(pipes, true, nil)
		if in != nil {
			io.input = append(io.input, in)
		}
		if err == nil {
			finish, err = io.prepare(p, true)
		}
		if err != nil {
			io.feedAll(false)
			io.finish()
			return nil, nil, err
		}
	} else {
		for i, f := range []**os.File{&p.Stdin, &p.Stdout, &p.Stderr} {
			if *f = pipes[i]; pipes[i] == nil {
				continue
			}
			// The process shares the mode of the client's end, and few programs
			// expect EAGAIN there.
			if err := blocking(pipes[i]); err != nil {
				wire.CloseAll(pipes)
				return nil, nil, err
			}
		}
	}
	var running *runtime.Running
	err = s.do(func() error {
		s.mu.Lock()
		box, status := s.box, s.run.Status
		s.mu.Unlock()
		if box == nil || status != record.Running {
			return stateError(status)
		}
		var err error
		running, err = box.Exec(p)
		step.At("exec.started")
		return err
	})
	started := err == nil
	if ferr := finish(started); err == nil {
		err = ferr
	}
	if err != nil {
		if started { // only its terminal failed
			running.Signal(unix.SIGKILL)
			running.Wait()
		}
		if io != nil {
			io.finish()
		}
	}
	return running, io, err
}

// blocking takes O_NONBLOCK off a pipe.
func blocking(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := rc.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *shim) execSpec(x *Exec) (*specs.Process, error) {
	s.mu.Lock()
	p := *s.cfg.OCI.Process
	s.mu.Unlock()
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, nil
	if x.Width > 0 && x.Height > 0 {
		p.ConsoleSize = &specs.Box{Width: uint(x.Width), Height: uint(x.Height)}
	}
	p.Env = mergeEnv(p.Env, x.Env)
	if x.TTY && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if x.Dir != "" {
		p.Cwd = x.Dir
	}
	p.Capabilities = s.caps
	if x.Privileged {
		p.Capabilities = s.allCaps()
	}
	name := s.cfg.User
	var groups []string
	if x.User != "" {
		name = x.User
		p.Env = slices.DeleteFunc(p.Env, func(e string) bool {
			return strings.HasPrefix(e, "HOME=") && !slices.Contains(x.Env, e) && !s.ownHome
		})
	} else {
		groups = s.cfg.Groups
	}
	if s.cfg.Customed && x.User == "" {
		p.User, p.Capabilities = s.cfg.OCI.Process.User, s.cfg.OCI.Process.Capabilities
		return &p, nil
	}
	return &p, s.user(&p, name, groups)
}

// mergeEnv lays more over base: a variable has one value, the last one given.
func mergeEnv(base, more []string) []string {
	out := slices.Clone(base)
	for _, e := range more {
		key, _, found := strings.Cut(e, "=")
		out = slices.DeleteFunc(out, func(o string) bool { return strings.HasPrefix(o, key+"=") })
		if found {
			out = append(out, e)
		}
	}
	return out
}
