package build

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/amphora-go/amphora/internal/fault"
)

// agentCall is the socket of one agent, made once.
type agentCall struct {
	once   sync.Once
	socket string
	err    error
}

// Agent is the socket of an agent; "" if the caller has none of that id.
func (s *session) Agent(_ context.Context, id string) (string, error) {
	given, ok := s.request.SSH[id]
	if !ok {
		return "", nil
	}
	s.mu.Lock()
	call := s.agents[id]
	if call == nil {
		call = &agentCall{}
		s.agents[id] = call
	}
	s.mu.Unlock()
	call.once.Do(func() {
		if call.socket, call.err = s.agent(given); call.err != nil {
			call.err = fault.Invalid("ssh agent %s: %w", id, call.err)
		}
	})
	return call.socket, call.err
}

func (s *session) agent(given SSH) (string, error) {
	if len(given.Keys) > 0 {
		return s.serveKeys(given.Keys)
	}
	socket := given.Socket
	if socket == "" {
		if socket = os.Getenv("SSH_AUTH_SOCK"); socket == "" {
			return "", invalid("the environment has no SSH_AUTH_SOCK")
		}
	}
	if _, err := os.Stat(socket); err != nil {
		return "", fault.Opaque(err)
	}
	return socket, nil
}

// serveKeys is an agent that has nothing but these keys.
func (s *session) serveKeys(files []string) (string, error) {
	ring := agent.NewKeyring()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fault.Opaque(err)
		}
		key, err := ssh.ParseRawPrivateKey(data)
		if err != nil {
			var locked *ssh.PassphraseMissingError
			if errors.As(err, &locked) {
				return "", invalid("the key %s has a passphrase: add it to an agent and give its socket", file)
			}
			return "", invalid("key %s: %w", file, err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: filepath.Base(file)}); err != nil {
			return "", invalid("key %s: %w", file, err)
		}
	}
	// Not below Root: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "amphora-agent-")
	if err != nil {
		return "", err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	var open conns
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.serve(c, ring)
		}
	}()
	s.onClose(func() error {
		err := l.Close()
		<-done
		open.close()
		return errors.Join(err, os.RemoveAll(dir))
	})
	return l.Addr().String(), nil
}

// conns are the connections that an agent serves.
type conns struct {
	mu   sync.Mutex // guards open
	open []net.Conn
	wait sync.WaitGroup
}

func (cs *conns) serve(c net.Conn, a agent.Agent) {
	cs.mu.Lock()
	cs.open = append(cs.open, c)
	cs.mu.Unlock()
	cs.wait.Go(func() {
		_ = agent.ServeAgent(readOnly{a}, c) // io.EOF when the client goes
		c.Close()
	})
}

// close ends them; nothing is accepted any more.
func (cs *conns) close() {
	cs.mu.Lock()
	for _, c := range cs.open {
		c.Close()
	}
	cs.mu.Unlock()
	cs.wait.Wait()
}

// readOnly lets a build use keys, not change which there are.
type readOnly struct{ agent.Agent }

var errReadOnly = errors.New("the keys of a build cannot be changed")

func (readOnly) Add(agent.AddedKey) error   { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error { return errReadOnly }
func (readOnly) RemoveAll() error           { return errReadOnly }
func (readOnly) Lock([]byte) error          { return errReadOnly }
func (readOnly) Unlock([]byte) error        { return errReadOnly }
