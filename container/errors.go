package container

import (
	"errors"
	"fmt"

	"github.com/amphora-go/amphora/internal/fault"
)

// Error says which operation failed, on what, and why.
type Error = fault.Error

// States in which an operation is not possible.
var (
	ErrRunning    = fault.ErrRunning
	ErrNotRunning = fault.ErrNotRunning
	ErrPaused     = fault.ErrPaused
	ErrInUse      = fault.ErrInUse
	// ErrSlow: a reader of output fell more than 1 MiB behind and was dropped.
	ErrSlow = fault.ErrSlow
	// ErrDetached: the detach keys were typed; the container goes on.
	ErrDetached = errors.New("detached")
)

// ExitError is an end that was not clean: as *exec.ExitError, for containers.
type ExitError struct {
	Exit
	// Stderr holds what Output collected of the standard error, if it was not
	// collected otherwise, shortened in its middle when long.
	Stderr []byte
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != 0 {
		text = fmt.Sprintf("killed by signal %d", e.Signal)
	}
	if e.OOMKilled {
		text += " (out of memory)"
	}
	if e.Unknown {
		text = "ended unseen: " + e.Exit.Error
	}
	return text
}

// Code returns what a command line ends with after err: the container's own
// exit code, 127 or 126 for a command that is missing or cannot run, 125 for
// any other failure, 0 for nil.
func Code(err error) int { return codeOf(err) }
