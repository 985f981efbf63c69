package amphora_test

import (
	"context"
	"errors"
	"testing"

	"github.com/amphora-go/amphora/container"
)

// supervised runs f while an engine of its own supervises the store.
func (s *store) supervised(t *testing.T, f func()) {
	t.Helper()
	eng := s.open(t)
	defer eng.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- eng.Supervise(ctx) }()
	f()
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("supervise: %v", err)
	}
}

func TestSuperviseRestartsWhatLostItsSupervisor(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	boxes := map[string]*container.Container{}
	for _, policy := range []string{"no", "always", "on-failure", "unless-stopped"} {
		spec := sleeper(policy)
		spec.Restart.Policy = policy
		boxes[policy] = started(t, eng, spec)
	}
	for _, c := range boxes {
		s.killShim(t, c)
	}
	s.truth(t, "killed")
	for policy, c := range boxes {
		if i := inspect(t, c); i.WaitsForSupervisor != (policy != "no") {
			t.Errorf("%s waits for a supervisor: %v", policy, i.WaitsForSupervisor)
		}
	}
	s.supervised(t, func() {
		up := func(policy string) func() bool {
			return func() bool { return inspect(t, boxes[policy]).Status == container.Running }
		}
		for policy := range boxes {
			if policy != "no" {
				until(t, policy+" is started again", up(policy))
			}
		}
		s.killShim(t, boxes["always"]) // while somebody watches
		until(t, "it is lost", func() bool { return !up("always")() })
		until(t, "always is started once more", up("always"))
		if err := eng.Supervise(t.Context()); !errors.Is(err, container.ErrInUse) {
			t.Errorf("a second one: %v", err)
		}
	})
	if i := inspect(t, boxes["no"]); i.Status != container.Exited {
		t.Errorf("no is %s", i.Status)
	}
	s.truth(t, "supervised")
}

// What a caller stopped is not started by a supervisor of the same boot.
func TestSuperviseLeavesStoppedContainersAlone(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	spec := sleeper("stopped")
	spec.Restart.Policy = "always"
	c := started(t, eng, spec)
	must(t, stopBox(c, t.Context()))
	spec = sleeper("stopping")
	spec.Restart.Policy = "unless-stopped"
	spec.Command = []string{"trap"}
	stopping := started(t, eng, spec)
	until(t, "it is ready", func() bool { return logged(t, stopping) != "" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopping.Stop(ctx, &container.StopOptions{Timeout: -1})
	must(t, stopping.Signal(t.Context(), "SIGTERM")) // does not end it, and is meant to
	s.killShim(t, stopping)
	s.truth(t, "killed")
	for _, c := range []*container.Container{c, stopping} {
		if i := inspect(t, c); i.WaitsForSupervisor {
			t.Errorf("%s waits for a supervisor: %+v", i.Name, i.Exit)
		}
	}
}

func TestSuperviseNeverStartsTwice(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	spec := sleeper("bad")
	spec.Restart.Policy = "always"
	c := started(t, eng, spec)
	s.killShim(t, c)
	s.truth(t, "killed")
	edit(t, s.record(t).Path(c.ID(), "config.json"), func(v map[string]any) {
		v["oci"].(map[string]any)["process"].(map[string]any)["args"] = []string{"missing"}
	})
	s.supervised(t, func() {
		until(t, "its start has failed", func() bool { e := inspect(t, c).Exit; return e != nil && e.Code == 127 })
	})
	if i := inspect(t, c); i.Status != container.Exited || i.Exit.Code != 127 || i.Exit.Error == "" {
		t.Errorf("%+v, exit %+v", i, i.Exit)
	}
	s.truth(t, "failed")
}
