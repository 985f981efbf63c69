package firewalld_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/firewalld"
	"github.com/amphora-go/amphora/internal/firewalld/fakebus"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/godbus/dbus/v5"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrust(t *testing.T) {
	b := fakebus.New(t)
	for range 2 { // the second time it is there already
		must(t, b.Trust(t.Context(), "amp1", "amp2"))
	}
	b.Set("amp3", "public")
	must(t, b.Trust(t.Context(), "amp3"))
	s, err := b.Status(t.Context(), "amp1", "amp2", "amp3", "amp4")
	must(t, err)
	if !s.Running || s.Zones["amp1"] != firewalld.Zone || s.Zones["amp2"] != firewalld.Zone || s.Zones["amp3"] != "public" || s.Zones["amp4"] != "" {
		t.Errorf("%+v", s)
	}
	for range 2 {
		must(t, b.Distrust(t.Context(), "amp1", "amp2", "amp3"))
	}
	if b.Zone("amp1") != "" || b.Zone("amp2") != "" || b.Zone("amp3") != "public" {
		t.Error("wrong interfaces were removed")
	}
}

// Neither a stopped firewalld is started, nor asked for anything.
func TestNotRunning(t *testing.T) {
	b := fakebus.New(t)
	b.Stop(true)
	must(t, b.Trust(t.Context(), "amp1"))
	if s, err := b.Status(t.Context(), "amp1"); err != nil || s.Running {
		t.Errorf("%+v, %v", s, err)
	}
	if calls := b.Calls(); len(calls) > 0 {
		t.Errorf("called %v", calls)
	}
}

func TestNoBus(t *testing.T) {
	dir := testenv.Dir(t)
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	must(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "none"), dead} {
		b := firewalld.Bus{Socket: path}
		if s, err := b.Status(t.Context(), "amp1"); err != nil || s.Running {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if err := (firewalld.Bus{Socket: file}).Trust(t.Context(), "amp1"); err != nil && !strings.Contains(err.Error(), file) {
		t.Errorf("the error does not name the bus: %v", err)
	}
}

// A bus that answers nothing costs the caller's patience and no more.
func TestHang(t *testing.T) {
	b := fakebus.New(t)
	b.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Trust(ctx, "amp1"); err == nil || !strings.Contains(err.Error(), b.Socket) {
		t.Errorf("%v, want an error that names the bus", err)
	}
}

// With a real bus, and firewalld's name on it taken by an object of this test.
func TestRealBus(t *testing.T) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	socket := filepath.Join(testenv.Dir(t), "bus")
	cmd := exec.Command(daemon, "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+socket)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1024)); err != nil { // it listens then
		t.Skip("dbus-daemon does not start here: ", err)
	}
	b := firewalld.Bus{Socket: socket}
	if s, err := b.Status(t.Context()); err != nil || s.Running {
		t.Fatalf("%+v, %v: nobody is there", s, err)
	}
	conn, err := dbus.Connect("unix:path=" + socket)
	must(t, err)
	defer conn.Close()
	z := zone{}
	must(t, conn.ExportWithMap(z, map[string]string{"AddInterface": "addInterface", "RemoveInterface": "removeInterface", "GetZoneOfInterface": "getZoneOfInterface"}, "/org/fedoraproject/FirewallD1", "org.fedoraproject.FirewallD1.zone"))
	_, err = conn.RequestName("org.fedoraproject.FirewallD1", dbus.NameFlagDoNotQueue)
	must(t, err)
	must(t, b.Trust(t.Context(), "amp1", "amp2"))
	must(t, b.Trust(t.Context(), "amp1"))
	must(t, b.Distrust(t.Context(), "amp2"))
	s, err := b.Status(t.Context(), "amp1", "amp2")
	must(t, err)
	if !s.Running || s.Zones["amp1"] != firewalld.Zone || s.Zones["amp2"] != "" {
		t.Errorf("%+v", s)
	}
}

// zone is the part of firewalld that is called.
type zone map[string]string

func (z zone) AddInterface(zone, iface string) (string, *dbus.Error) {
	if z[iface] == zone {
		return "", dbus.NewError("org.fedoraproject.FirewallD1.Exception", []any{"ZONE_ALREADY_SET: '" + iface + "' already bound to '" + zone + "'"})
	}
	z[iface] = zone
	return zone, nil
}

func (z zone) RemoveInterface(zone, iface string) (string, *dbus.Error) {
	delete(z, iface)
	return zone, nil
}

func (z zone) GetZoneOfInterface(iface string) (string, *dbus.Error) { return z[iface], nil }
