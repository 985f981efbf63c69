//go:build !unix

package testenv

import "os"

// killed compares with what internal/step exits with where there are no
// signals.
func killed(s *os.ProcessState) bool { return s.ExitCode() == 137 }
