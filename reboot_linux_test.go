package amphora_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/wire"
)

// reboot makes the store one that an earlier boot of the machine left: no
// process, nothing in State, another boot id in every file.
func (s *store) reboot(t *testing.T) {
	t.Helper()
	root := s.record(t)
	ids, err := root.IDs()
	must(t, err)
	for _, id := range ids {
		if run, err := root.LoadRun(id); err == nil && run != nil {
			syscall.Kill(run.Shim, syscall.SIGKILL)
			until(t, "the processes are dead", func() bool { return !running(run.Shim) && !running(run.Pid) })
		}
		for _, name := range []string{"run.json", "exit.json"} {
			edit(t, root.Path(id, name), func(v map[string]any) { v["boot"] = "earlier" })
		}
	}
	edit(t, filepath.Join(s.opts.Root, "engine.json"), func(v map[string]any) { v["stamp"].(map[string]any)["boot"] = "earlier" })
	segments, err := filepath.Glob(filepath.Join(s.opts.Root, "journal", "*.log"))
	must(t, err)
	for _, file := range segments {
		rebootSegment(t, file)
	}
	// Of State a disk may have kept what the networks wrote.
	kept := filepath.Join(s.dir, "kept")
	must(t, os.Rename(filepath.Join(s.opts.State, "net"), kept))
	must(t, os.RemoveAll(s.opts.State))
	must(t, os.Mkdir(s.opts.State, 0o700))
	must(t, os.Rename(kept, filepath.Join(s.opts.State, "net")))
	s.open(t)
	if left, err := filepath.Glob(filepath.Join(s.opts.State, "net", "attached", "*", "*")); len(left) > 0 || err != nil {
		t.Errorf("connections of the earlier boot: %v, %v", left, err)
	}
}

// edit changes a JSON file, if there is one.
func edit(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	must(t, err)
	v := map[string]any{}
	must(t, json.Unmarshal(b, &v))
	change(v)
	b, err = json.Marshal(v)
	must(t, err)
	must(t, os.WriteFile(path, b, 0o600))
}

// rebootSegment changes the boot in a segment's first line.
func rebootSegment(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	line, rest, _ := strings.Cut(string(b), "\n")
	head := map[string]any{}
	must(t, json.Unmarshal([]byte(line[9:]), &head))
	head["boot"] = "earlier"
	body, err := json.Marshal(head)
	must(t, err)
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	must(t, os.WriteFile(file, fmt.Appendf(nil, "%08x %s\n%s", sum, body, rest), 0o600))
}

func TestMachineRestarted(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	for _, policy := range []string{"no", "always", "on-failure", "unless-stopped"} {
		spec := sleeper(policy)
		spec.Restart.Policy = policy
		started(t, eng, spec)
		spec.Name = policy + "-stopped"
		must(t, stopBox(started(t, eng, spec), t.Context()))
	}
	spec := sleeper("gone")
	spec.AutoRemove = true
	started(t, eng, spec)
	volatile := started(t, eng, sleeper("volatile"))
	must(t, volatile.Command(t.Context(), "touch", "/written").Run())
	must(t, stopBox(started(t, eng, sleeper("ended")), t.Context()))
	create(t, eng, sleeper("created"), nil)
	var last uint64
	for ev, err := range eng.Events(t.Context(), nil) {
		must(t, err)
		last = ev.Seq
	}
	edit(t, s.record(t).Path(volatile.ID(), "config.json"), func(v map[string]any) { v["volatile"] = true })
	s.reboot(t)

	eng = s.open(t)
	waits := map[string]bool{"always": true, "always-stopped": true, "on-failure": true, "unless-stopped": true}
	infos, err := eng.Containers().List(t.Context(), nil)
	must(t, err)
	for _, i := range infos {
		if i.Name == "created" {
			if i.Status != container.Created {
				t.Errorf("%+v", i)
			}
			continue
		}
		was := strings.Contains(i.Name, "stopped") && i.Name != "unless-stopped" || i.Name == "ended"
		if i.Status != container.Exited || i.Exit.Unknown == was || strings.Contains(i.Exit.Error, "restarted") == was || i.WaitsForSupervisor != waits[i.Name] {
			t.Errorf("%s is %s, waits: %v, exit %+v", i.Name, i.Status, i.WaitsForSupervisor, i.Exit)
		}
	}
	if _, err := eng.Containers().Get(t.Context(), "gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a container that is removed at its end: %v", err)
	}
	if _, err := os.Stat(s.record(t).Path(volatile.ID(), "upper")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that was not synced is still there: %v", err)
	}
	for ev, err := range eng.Events(t.Context(), &amphora.EventOptions{Since: last}) {
		must(t, err)
		if ev.Seq <= last+1<<20 {
			t.Errorf("event %d of this boot, the last of the earlier one was %d", ev.Seq, last)
		}
		last = ev.Seq - 1<<20
	}
	s.truth(t, "restarted")
	s.supervised(t, func() {
		until(t, "policies are followed", func() bool {
			infos, err := eng.Containers().List(t.Context(), &container.Filter{Status: []container.Status{container.Running}})
			return err == nil && len(infos) == len(waits)
		})
	})
	for name := range waits {
		c, err := eng.Containers().Get(t.Context(), name)
		must(t, err)
		if i := inspect(t, c); i.Status != container.Running {
			t.Errorf("%s is %s", name, i.Status)
		}
	}
	s.truth(t, "supervised")
}

func TestOtherStateIsRefusedWhileContainersLive(t *testing.T) {
	s := newStore(t)
	c := started(t, s.open(t), sleeper("living"))
	other := s.opts
	other.State = filepath.Join(s.dir, "other")
	_, err := amphora.Open(t.Context(), &other)
	if !errors.Is(err, container.ErrInUse) || !strings.Contains(err.Error(), c.ID()[:12]) || !strings.Contains(err.Error(), s.opts.State) {
		t.Errorf("another State: %v", err)
	}
	if _, err := os.Stat(other.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused Open made its State directory: %v", err)
	}
	must(t, c.Remove(t.Context(), &container.RemoveOptions{Force: true}))
	eng, err := amphora.Open(t.Context(), &other)
	must(t, err)
	defer eng.Close()
	started(t, eng, sleeper("there"))
	if _, err := amphora.Open(t.Context(), &s.opts); !errors.Is(err, container.ErrInUse) {
		t.Errorf("the first State again: %v", err)
	}
	s.opts = other // for the clean-up
}

func TestWipedState(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	c := started(t, eng, sleeper("living"))
	shim := s.shimOf(t, c)
	must(t, os.RemoveAll(s.opts.State))
	if i := inspect(t, c); i.Status != container.Running || !running(i.Pid) {
		t.Errorf("%+v", i)
	}
	if err := c.Stop(t.Context(), nil); err == nil || !strings.Contains(err.Error(), fmt.Sprint(shim)) {
		t.Errorf("stop: %v", err)
	}
	if err := c.Start(t.Context()); !errors.Is(err, container.ErrRunning) {
		t.Errorf("start: %v", err)
	}
	if _, err := amphora.Open(t.Context(), &s.opts); !errors.Is(err, container.ErrInUse) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("open: %v", err)
	}
	must(t, syscall.Kill(shim, syscall.SIGKILL))
	until(t, "the lock is free", func() bool { return inspect(t, c).Status == container.Exited })
	s.truth(t, "the supervisor was killed")
	must(t, c.Start(t.Context()))
	must(t, c.Command(t.Context(), "true").Run())
}

func TestNewerFormats(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	c := create(t, eng, sleeper("future"), nil)
	create(t, eng, sleeper("present"), nil)
	file := s.record(t).Path(c.ID(), "record.json")
	edit(t, file, func(v map[string]any) { v["invention"] = map[string]any{"of": "a later version"} })
	must(t, c.Rename(t.Context(), "renamed"))
	must(t, c.Start(t.Context()))
	must(t, stopBox(c, t.Context()))
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"invention":{"of":"a later version"}`) {
		t.Errorf("a field was lost: %s, %v", b, err)
	}
	newer := func(err error) bool {
		return errors.Is(err, errors.ErrUnsupported) && strings.Contains(err.Error(), "version 77") && strings.Contains(err.Error(), "up to 1")
	}
	edit(t, file, func(v map[string]any) { v["version"] = 77 })
	if _, err := c.Inspect(t.Context()); !newer(err) {
		t.Errorf("inspect: %v", err)
	}
	if err := c.Start(t.Context()); !newer(err) {
		t.Errorf("start: %v", err)
	}
	infos, err := eng.Containers().List(t.Context(), &container.Filter{Status: []container.Status{container.Created}})
	if err != nil || len(infos) != 1 || infos[0].Name != "present" {
		t.Errorf("list: %v, %v", infos, err)
	}
	edit(t, file, func(v map[string]any) { v["version"] = 1 })
	edit(t, filepath.Join(s.opts.Root, "engine.json"), func(v map[string]any) { v["version"] = 77 })
	if _, err := amphora.Open(t.Context(), &s.opts); !newer(err) {
		t.Errorf("open: %v", err)
	}
	edit(t, filepath.Join(s.opts.Root, "engine.json"), func(v map[string]any) { v["version"] = 1 })
}

// TestSupervisorOfAnotherVersion talks to a supervisor that says what protocols
// it speaks.
func TestSupervisorOfAnotherVersion(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	for _, v := range []struct {
		protocol, minimum int
		understood        bool
	}{
		{wire.Protocol, wire.Minimum, true}, {wire.Protocol + 1, wire.Protocol, true}, {wire.Protocol + 1, wire.Protocol + 1, false},
		{wire.Minimum - 1, wire.Minimum - 1, false}, {wire.Protocol + 7, 1, true},
	} {
		c := create(t, eng, sleeper("foreign"), nil)
		path := s.record(t).Socket(c.ID())
		l, err := wire.Listen(path)
		must(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conn.Send(map[string]any{"hello": wire.Hello{Protocol: v.protocol, Minimum: v.minimum, Build: "amphora of the future"}, "news": 1})
			var req struct{ Hello *wire.Hello }
			if _, err := conn.Receive(&req); err == nil && (req.Hello == nil || req.Hello.Protocol != wire.Protocol) {
				t.Errorf("a request with the greeting %+v", req.Hello)
			}
			conn.Send(map[string]any{"pids": []int{1, 2}})
		}()
		pids, err := c.Pids(t.Context())
		if v.understood && (err != nil || len(pids) != 2) {
			t.Errorf("%+v: %v, %v", v, pids, err)
		}
		if !v.understood && (!errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "amphora of the future") ||
			!strings.Contains(err.Error(), fmt.Sprintf("protocol %d to %d", v.minimum, v.protocol))) {
			t.Errorf("%+v: %v", v, err)
		}
		l.Close()
		<-served
		os.Remove(path)
		must(t, c.Remove(t.Context(), nil))
	}
}
