package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// agent is a socket of the container that leads to an agent of the caller.
type agent struct {
	name     string // in the container's directory
	to       string // the agent's socket
	uid, gid uint32
	mode     uint32
}

func (c *compiled) agentMount(ctx context.Context, m *op.Mount) (*specs.Mount, error) {
	socket := ""
	if c.step.Agent != nil {
		var err error
		if socket, err = c.step.Agent(ctx, m.ID); err != nil {
			return nil, err
		}
	}
	if socket == "" {
		if m.Optional {
			return nil, nil
		}
		return nil, fault.Invalid("the ssh agent %q is required and was not given", m.ID)
	}
	name := fmt.Sprint("agent", len(c.agents))
	c.agents = append(c.agents, agent{name: name, to: socket, uid: m.UID, gid: m.GID, mode: m.Mode})
	return &specs.Mount{Type: "bind", Source: filepath.Join(c.dir, name), Options: []string{"rbind", "rprivate"}}, nil
}

// agents are the sockets that this process serves for one container.
type agents struct {
	dir       *os.File
	listeners []*net.UnixListener
	wg        sync.WaitGroup
	mu        sync.Mutex // guards what follows
	closed    bool
	conns     map[net.Conn]bool
}

// serveAgents makes the sockets in the container's directory, with which they
// go, and forwards what connects to them.
func (r *Runner) serveAgents(id string, all []agent) (*agents, error) {
	if len(all) == 0 {
		return nil, nil
	}
	a := &agents{conns: map[net.Conn]bool{}}
	var err error
	if a.dir, err = os.Open(r.root.Path(id)); err != nil {
		return a, fault.Opaque(err)
	}
	for _, s := range all {
		// Through the directory's descriptor: paths of sockets end at 107 bytes.
		path := fmt.Sprintf("/proc/self/fd/%d/%s", a.dir.Fd(), s.name)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return a, fault.Opaque(err)
		}
		l.SetUnlinkOnClose(false)
		a.listeners = append(a.listeners, l)
		if err := errors.Join(os.Chown(path, int(s.uid), int(s.gid)), os.Chmod(path, fs.FileMode(s.mode&0o777))); err != nil {
			return a, fault.Opaque(err)
		}
		a.wg.Go(func() { a.serve(l, s.to) })
	}
	return a, nil
}

func (a *agents) serve(l *net.UnixListener, to string) {
	for {
		in, err := l.AcceptUnix()
		if err != nil {
			return
		}
		a.wg.Go(func() { a.forward(in, to) })
	}
}

// forward joins two connections until both directions have ended.
func (a *agents) forward(in *net.UnixConn, to string) {
	defer a.forget(in)
	if !a.keep(in) {
		return
	}
	out, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to, Net: "unix"})
	if err != nil {
		return
	}
	defer a.forget(out)
	if !a.keep(out) {
		return
	}
	done := make(chan struct{})
	go func() {
		io.Copy(out, in)
		out.CloseWrite()
		close(done)
	}()
	io.Copy(in, out)
	in.CloseWrite()
	<-done
}

func (a *agents) keep(c net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.conns[c] = true
	}
	return !a.closed
}

func (a *agents) forget(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, c)
	c.Close()
}

// close ends what is forwarded, and waits for it.
func (a *agents) close() {
	if a == nil {
		return
	}
	for _, l := range a.listeners {
		l.Close()
	}
	a.mu.Lock()
	a.closed = true
	for c := range a.conns {
		c.Close()
	}
	a.mu.Unlock()
	a.wg.Wait()
	a.dir.Close()
}
