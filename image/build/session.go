package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/internal/fault"
)

// Names that the frontend has for the caller's trees.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
)

// session is what one build takes from its caller: directories, secrets,
// agents. It must be closed. Safe for concurrent use.
type session struct {
	request *Request
	// work gives a directory for what must be put on disk; whoever gave it
	// removes it. It is set before anything is asked for.
	work func() (string, error)

	mu      sync.Mutex // guards what follows
	locals  map[string]*local
	layouts map[string]string // directories of OCI layouts
	agents  map[string]*agentCall
	closers []func() error
}

// local is one of the caller's trees.
type local struct {
	context Context
	memory  memory // instead of context: files that have no directory

	once sync.Once
	root *os.Root // of context.Dir, or of a copy of what is no directory
	err  error
}

// newSession opens nothing yet.
func newSession(r *Request) *session {
	return &session{request: r, locals: map[string]*local{}, layouts: map[string]string{}, agents: map[string]*agentCall{}}
}

// Close ends what the session opened. It may be called again.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.closers {
		errs = append(errs, f())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// onClose has f called by Close.
func (s *session) onClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// addLocal gives a tree the name that the frontend uses for it.
func (s *session) addLocal(name string, l *local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locals[name] = l
}

func (s *session) local(name string) (*local, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locals[name]
	if l == nil {
		return nil, fault.Invalid("the request has no context %q", name)
	}
	return l, nil
}

// files is a tree to look into. It does not leave the directory: a symbolic
// link that leads out of it is an error.
func (s *session) files(ctx context.Context, name string) (fs.FS, error) {
	l, err := s.local(name)
	switch {
	case err != nil:
		return nil, err
	case l.memory != nil:
		return l.memory, nil
	case l.context.FS != nil:
		return l.context.FS, nil
	}
	if err := s.onDisk(ctx, l); err != nil {
		return nil, err
	}
	return l.root.FS(), nil
}

// Dir is the directory of a tree of the caller.
func (s *session) Dir(ctx context.Context, name string) (string, error) {
	l, err := s.local(name)
	if err != nil {
		return "", err
	}
	if err := s.onDisk(ctx, l); err != nil {
		return "", err
	}
	return l.root.Name(), nil
}

// Layout is the directory of an OCI layout that the caller gave.
func (s *session) Layout(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, ok := s.layouts[name]
	return dir, ok
}

// Secret is the value of a secret; false if the caller has none of that id.
func (s *session) Secret(ctx context.Context, id string) ([]byte, bool, error) {
	secret, ok := s.request.Secrets[id]
	switch {
	case !ok:
		return nil, false, nil
	case secret.File != "":
		data, err := os.ReadFile(secret.File)
		if err != nil {
			return nil, false, fault.Invalid("secret %s: %w", id, fault.Opaque(err))
		}
		return data, true, nil
	case secret.Env != "":
		v, ok := os.LookupEnv(secret.Env)
		if !ok {
			return nil, false, fault.Invalid("secret %s: the environment has no variable %s", id, secret.Env)
		}
		return []byte(v), true, nil
	}
	return secret.Data, true, nil
}

// onDisk opens the directory of a tree, once it is one.
func (s *session) onDisk(ctx context.Context, l *local) error {
	l.once.Do(func() {
		dir := l.context.Dir
		if dir == "" {
			if dir, l.err = s.unpacked(ctx, l); l.err != nil {
				return
			}
		}
		if dir, l.err = filepath.Abs(dir); l.err != nil {
			return
		}
		if l.root, l.err = os.OpenRoot(dir); l.err != nil {
			l.err = fault.Invalid("build context: %w", fault.Opaque(l.err))
			return
		}
		s.onClose(l.root.Close)
	})
	return l.err
}

// unpacked puts a tree that is no directory into one.
func (s *session) unpacked(ctx context.Context, l *local) (string, error) {
	work, err := s.work()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(work, "context-")
	if err != nil {
		return "", err
	}
	switch c := l.context; {
	case l.memory != nil:
		err = copyFS(ctx, dir, l.memory)
	case c.FS != nil:
		err = copyFS(ctx, dir, c.FS)
	case c.Tar != nil:
		err = unpackTar(ctx, dir, c.Tar)
	}
	return dir, err
}

// dockerfile says which tree the Dockerfile is in, and what it is called
// there. Both are "" if it comes with a context that the frontend fetches.
func (s *session) dockerfile() (tree, name string, err error) {
	r := s.request
	name = r.Dockerfile
	switch {
	case r.Inline != nil:
		base := "Dockerfile"
		if name != "" {
			base = filepath.Base(name)
		}
		s.addLocal(localDockerfile, &local{memory: memory{base: r.Inline}})
		return localDockerfile, base, nil
	case filepath.IsAbs(name):
		m := memory{}
		base := filepath.Base(name)
		if m[base], err = os.ReadFile(name); err != nil {
			return "", "", fault.Invalid("Request.Dockerfile: %w", fault.Opaque(err))
		}
		if m[base+".dockerignore"], err = os.ReadFile(name + ".dockerignore"); errors.Is(err, fs.ErrNotExist) {
			delete(m, base+".dockerignore")
		} else if err != nil {
			return "", "", fault.Invalid("Request.Dockerfile: %w", fault.Opaque(err))
		}
		s.addLocal(localDockerfile, &local{memory: m})
		return localDockerfile, base, nil
	case r.Context.URL != "":
		return "", strings.TrimPrefix(filepath.ToSlash(name), "./"), nil
	}
	return localContext, strings.TrimPrefix(filepath.ToSlash(name), "./"), nil
}
