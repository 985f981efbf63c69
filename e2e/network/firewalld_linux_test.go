package network

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
	"github.com/amphora-go/amphora/internal/testenv"
)

// daemon starts a program, which the caller stops.
func daemon(t *testing.T, argv ...string) (stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(testenv.Dir(t), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	return func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		if text, _ := os.ReadFile(log.Name()); t.Failed() && len(text) > 0 {
			t.Logf("%s: %s", argv[0], text)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: not within 30 s", what)
}

// firewalld starts it on the system's bus.
func firewalld(t *testing.T) (stop func()) {
	t.Helper()
	stop = daemon(t, "firewalld", "--nofork", "--nopid")
	eventually(t, "firewalld runs", func() bool {
		_, err := output("firewall-cmd", "--state")
		return err == nil
	})
	return stop
}

// aboutFirewalld are Check's findings about it.
func (e *engine) aboutFirewalld() (found []amphora.Finding) {
	e.t.Helper()
	all, err := e.Check(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range all {
		if f.Name == "firewalld" {
			found = append(found, f)
		}
	}
	return found
}

// TestFirewalld runs beside firewalld, which rejects what it does not know.
func TestFirewalld(t *testing.T) {
	need(t, "firewalld", "firewall-cmd", "dbus-daemon")
	if !reach.Isolated(t) {
		return
	}
	if err := os.MkdirAll("/run/dbus", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon(t, "dbus-daemon", "--system", "--nofork", "--nopidfile"))
	eventually(t, "the bus listens", func() bool { _, err := os.Stat("/run/dbus/system_bus_socket"); return err == nil })
	stop := firewalld(t)
	t.Cleanup(func() { stop() })
	e := open(t)
	t.Cleanup(func() {
		if left := run(t, "firewall-cmd", "--zone=trusted", "--list-interfaces"); left != "" {
			t.Errorf("networks are gone, and still in the trusted zone: %s", left)
		}
	})
	w := reach.NewWorld(t, e)
	p := newPart(t, "Beside firewalld")
	p.ask(w, "firewalld "+run(t, "firewall-cmd", "--version")+" was there first")
	attack(p, w)
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"`firewall-cmd --reload`", func() { run(t, "firewall-cmd", "--reload") }},
		{"a restart of firewalld", func() { stop(); stop = firewalld(t) }},
	} {
		c.do()
		// It forgets what is not permanent.
		found := e.aboutFirewalld()
		if len(found) != 1 || !strings.Contains(found[0].Cure, "reload") {
			t.Errorf("after %s Check finds %v", c.what, found)
			continue
		}
		p.say("After %s, `Check` says: %s. It advises: %s.", c.what, found[0].Problem, found[0].Cure)
		e.reload()
		p.again(w, "After `network reload`")
	}
}
