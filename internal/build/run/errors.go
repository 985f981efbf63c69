package run

import (
	"fmt"
	"slices"
	"strings"
)

// Error is what Docker's builder says.
func (e *ExitError) Error() string {
	text := fmt.Sprintf("process %q did not complete successfully: exit code: %d", strings.Join(e.Args, " "), e.Code)
	if e.OOMKilled {
		text += " (out of memory: give the step more, or let it need less)"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns why a command could not be executed, if that is it.
func (e *ExitError) Unwrap() error { return e.Err }

// accepts says whether an exit code is no failure.
func (s *Step) accepts(code int) bool {
	if s.Exec.ExitCodes == nil {
		return code == 0
	}
	return slices.Contains(s.Exec.ExitCodes, code)
}
