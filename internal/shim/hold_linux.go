package shim

import (
	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/wire"
)

// handleHold freezes the container's processes for as long as the client stays
// connected, so that a killed client cannot leave them frozen. The container's
// status does not change, and the group is written to directly: an exec that
// waits for the thaw holds libcontainer's own lock meanwhile.
func (s *shim) handleHold(conn *wire.Conn) {
	err := s.hold()
	conn.Send(Reply{Error: wire.Pack(err)})
	if err != nil {
		return
	}
	var req Request
	files, _ := conn.Receive(&req) // its end
	wire.CloseAll(files)
	s.unhold()
}

func (s *shim) hold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init == nil || s.over || s.stop {
		return fault.ErrNotRunning
	}
	if err := cgroup.Freeze(s.c.Cgroup, true); err != nil {
		return err
	}
	s.holds++
	s.frozen++
	return nil
}

func (s *shim) unhold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds--; s.holds == 0 && s.run.Status != record.Paused {
		cgroup.Freeze(s.c.Cgroup, false)
	}
}
