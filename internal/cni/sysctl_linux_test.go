package cni

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForwardingIsTurnedOn(t *testing.T) {
	l := newLab(t)
	l.down()
	routing(t, "0")
	t.Cleanup(func() { routing(t, "1") })
	uplink(t, "up0", "fd99::1/64", 1400)
	if err := l.Up(t.Context(), l.conflist()); err != nil {
		t.Fatal(err)
	}
	s := sysctls("/proc/sys")
	if got, _ := s.get(forward4); got != "1" {
		t.Errorf("ip_forward is %s", got)
	}
	changed, err := l.ChangedSysctls()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{forward4: "0", forward6: "0"}
	if s.has("net/ipv6/conf/up0/force_forwarding") { // since 6.17
		want = map[string]string{forward4: "0", "net/ipv6/conf/up0/force_forwarding": "0"}
		for _, link := range []string{"up0", l.bridge()} {
			if got, _ := s.get("net/ipv6/conf/" + link + "/force_forwarding"); got != "1" {
				t.Errorf("force_forwarding of %s is %s", link, got)
			}
		}
		if got, _ := s.get(forward6); got != "0" {
			t.Error("all interfaces were made to forward")
		}
	}
	if !maps.Equal(changed, want) {
		t.Errorf("changed: %v, want %v", changed, want)
	}
	if l.table.sealed == 0 {
		t.Error("not sealed")
	}
	sealed := l.table.sealed
	if err := l.Up(t.Context(), l.conflist()); err != nil || l.table.sealed == sealed {
		t.Errorf("Up again does not seal again: %v", err)
	}
}

// Kernels before 6.17, by a directory that looks like theirs.
func TestForwarding6BeforeForce(t *testing.T) {
	l := newLab(t)
	uplink(t, "up0", "fd99::1/64", 1500)
	dir := l.dir + "/sys"
	write := func(name, value string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(forward4, "1")
	write(forward6, "0")
	write("net/ipv6/conf/up0/accept_ra", "1")
	l.CNI.proc = dir
	n := &network{name: "x"}
	n.filter.Name = "br"
	n.filter.Subnets = append(n.filter.Subnets, l.subnet6())
	n.gateways = append(n.gateways, l.subnet6())
	if err := l.forward(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	s := sysctls(dir)
	all, _ := s.get(forward6)
	ra, _ := s.get("net/ipv6/conf/up0/accept_ra")
	if all != "1" || ra != "2" || l.table.sealed == 0 {
		t.Errorf("forwarding %s, accept_ra %s, sealed %d", all, ra, l.table.sealed)
	}
	if changed, err := l.ChangedSysctls(); err != nil || changed["net/ipv6/conf/up0/accept_ra"] != "1" {
		t.Errorf("%v %v", changed, err)
	}
}

// A read-only setting is named, with what to do, and counts as a missing
// privilege; one that has its value already is no trouble.
func TestReadOnlySysctl(t *testing.T) {
	l := newLab(t)
	routing(t, "0")
	t.Cleanup(func() { routing(t, "1") })
	ro := filepath.Join(l.dir, "ro")
	if err := os.Mkdir(ro, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/sys", ro, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(ro, unix.MNT_DETACH)
	if err := unix.Mount("", ro, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	l.CNI.proc = ro
	n := &network{name: "x"}
	n.filter.Subnets = append(n.filter.Subnets, l.subnet4())
	err := l.forward(t.Context(), n)
	if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "sysctl -w net.ipv4.ip_forward=1") {
		t.Errorf("%v", err)
	}
	if changed, _ := l.ChangedSysctls(); len(changed) > 0 {
		t.Errorf("recorded as changed: %v", changed)
	}
	// Changed earlier, and changed back by somebody since: what it was stays known.
	l.CNI.proc = "/proc/sys"
	if err := l.forward(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	routing(t, "0")
	l.CNI.proc = ro
	if err := l.forward(t.Context(), n); err == nil {
		t.Error("a read-only setting was changed")
	}
	if changed, _ := l.ChangedSysctls(); changed[forward4] != "0" {
		t.Errorf("the record of an earlier change is lost: %v", changed)
	}
	routing(t, "1")
	if err := l.forward(t.Context(), n); err != nil {
		t.Error(err)
	}
}
