package container

import "github.com/amphora-go/amphora/internal/jail"

const defaultTimeout = 10 // s, Docker's grace time of stop

// capabilities applies add and drop to the default set. Privileged and ALL
// mean what the machine has to give.
func capabilities(s *Security, available []string) ([]string, error) {
	if s.Privileged {
		return available, nil
	}
	return jail.Capabilities(s.CapAdd, s.CapDrop, available)
}
