package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// namespace is the path of a network namespace with nothing in it.
func namespace(t *testing.T) string {
	t.Helper()
	path, end := sleeper(t)
	t.Cleanup(end)
	return path
}

// sleeper is a namespace and what ends it.
func sleeper(t *testing.T) (path string, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), func() { cmd.Process.Kill(); cmd.Wait() }
}

func TestAttach(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	for _, name := range []string{"one", "two"} {
		if _, err := m.Create(ctx, &Spec{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	ns := namespace(t)
	all, err := m.Attach(ctx, "blue", ns, Endpoint{Network: "one"}, Endpoint{Network: "two", Priority: 1, Aliases: []string{"azure"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Network != "two" || all[0].Interface != "eth0" || all[1].Interface != "eth1" || !slices.Contains(all[0].Names, "azure") {
		t.Errorf("%+v", all)
	}
	if _, err := m.Attach(ctx, "blue", ns, Endpoint{Network: "one"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("twice: %v", err)
	}
	if err := m.Detach(ctx, "blue", "two"); err != nil {
		t.Fatal(err)
	}
	again, err := m.Attach(ctx, "blue", ns, Endpoint{Network: "two"})
	if err != nil || again[0].Interface != "eth0" {
		t.Errorf("again: %+v, %v", again, err)
	}
	// What was begun in a failed call is undone.
	green := namespace(t)
	for _, bad := range []Endpoint{{Network: "nosuch"}, {Network: Host}, {Network: "two", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}} {
		if _, err := m.Attach(ctx, "green", green, Endpoint{Network: "one", Priority: 1}, bad); err == nil {
			t.Errorf("%+v was attached", bad)
		}
		if n, err := m.s.Attached("green"); err != nil || len(n) != 0 {
			t.Errorf("after a failure: %+v, %v", n, err)
		}
	}
	if _, err := m.Attach(ctx, "green", "/etc/passwd", Endpoint{Network: "one"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no namespace: %v", err)
	}
	if err := m.Remove(ctx, "one"); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "blue") {
		t.Errorf("remove in use: %v", err)
	}
	if err := m.Detach(ctx, "blue"); err != nil {
		t.Fatal(err)
	}
	if err := m.Detach(ctx, "blue"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	// A namespace that is gone is forgotten.
	path, end := sleeper(t)
	if _, err := m.Attach(ctx, "gone", path, Endpoint{Network: "one"}); err != nil {
		t.Error(err)
	}
	end()
	if err := m.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(ctx, "one"); err != nil {
		t.Errorf("after recovery: %v", err)
	}
}
