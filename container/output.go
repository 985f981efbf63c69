package container

import (
	"errors"
	"io"
	"io/fs"
	"os/exec"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/shim"
)

// keep is how much an ExitError keeps of each end of the standard error, as
// os/exec does.
const keep = 32 << 10

// ends keeps the beginning and the end of what is written.
type ends struct {
	head, tail []byte
	lost       bool
}

func (e *ends) Write(p []byte) (int, error) {
	n := len(p)
	if room := keep - len(e.head); room > 0 {
		room = min(room, len(p))
		e.head, p = append(e.head, p[:room]...), p[room:]
	}
	e.tail = append(e.tail, p...)
	if over := len(e.tail) - keep; over > 0 {
		e.tail, e.lost = append(e.tail[:0], e.tail[over:]...), true
	}
	return n, nil
}

func (e *ends) bytes() []byte {
	if !e.lost {
		return append(e.head, e.tail...)
	}
	return append(append(e.head, "\n... omitted ...\n"...), e.tail...)
}

// withStderr runs f and, if stderr is not set, gives an ExitError what was
// written there.
func withStderr(stderr *io.Writer, f func() error) error {
	if *stderr != nil {
		return f()
	}
	var e ends
	*stderr = &e
	err := f()
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.Stderr = e.bytes()
	}
	return err
}

func codeOf(err error) int {
	var exit *ExitError
	var start *shim.StartError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &start):
		return start.Code
	case errors.Is(err, exec.ErrNotFound):
		return 127
	case errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported):
		return 126
	}
	return 125
}

// errStream is what Output and CombinedOutput say when a stream that they
// collect is taken.
func errStream(name string) error { return errors.New(name + " is already set") }

// stopped is the error of a process that ended after its context had: it Is
// the context's error, and an *ExitError too if the end was not clean.
func stopped(cancel error, exit *Exit) error {
	if exit.Code == 0 {
		return cancel
	}
	return fault.Kind(cancel, "%w (%w)", cancel, &ExitError{Exit: *exit})
}
