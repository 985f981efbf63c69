package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// group makes a control group in every hierarchy.
func group(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	g := "/amphora-" + testenv.OwnID(t)
	for _, d := range dirsOf(t, g) {
		must(t, os.Mkdir(d, 0o755))
	}
	t.Cleanup(func() {
		if err := errors.Join(Kill(g, 10*time.Second), Remove(g)); err != nil {
			t.Error(err)
		}
	})
	return g
}

func dirsOf(t *testing.T, g string) []string {
	t.Helper()
	ds, err := dirs(g)
	must(t, err)
	return ds
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in starts a command in the group, in every hierarchy that takes it.
func in(t *testing.T, g string, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read go; "+script)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	for _, d := range dirsOf(t, g) {
		err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0)
		if err != nil && !strings.Contains(d, "cpuset") { // a fresh cpuset takes nobody
			t.Fatal(err)
		}
	}
	stdin.Write([]byte("\n"))
	stdin.Close()
	return cmd
}

func TestKillAndRemove(t *testing.T) {
	g := group(t)
	a, b := in(t, g, "exec sleep 1000"), in(t, g, "trap '' TERM INT; sleep 1000 & sleep 1000 & wait")
	pids, err := Pids(g)
	must(t, err)
	if !slices.Contains(pids, a.Process.Pid) || !slices.Contains(pids, b.Process.Pid) {
		t.Errorf("pids %v lack %d or %d", pids, a.Process.Pid, b.Process.Pid)
	}
	must(t, Kill(g, 10*time.Second)) // they are zombies then, which nobody has reaped
	must(t, Kill(g, 10*time.Second))
	a.Wait()
	b.Wait()
	must(t, Remove(g))
	must(t, Remove(g))
	for _, d := range dirsOf(t, g) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", d, err)
		}
	}
}

// What forks faster than it can be listed dies too.
func TestKillForkers(t *testing.T) {
	g := group(t)
	cmd := in(t, g, "spawn() { (sleep 0.01; spawn) & }; for i in 1 2 3 4; do spawn; done; while :; do sleep 0.001; done")
	for range 20 {
		if pids, _ := Pids(g); len(pids) > 4 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	must(t, Kill(g, 20*time.Second))
	cmd.Wait()
	must(t, Remove(g))
}

func TestKillFrozen(t *testing.T) {
	g := group(t)
	cmd := in(t, g, "exec sleep 1000")
	frozen := false
	for _, d := range dirsOf(t, g) {
		for file, value := range map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"} {
			if _, err := os.Stat(filepath.Join(d, file)); err == nil {
				must(t, os.WriteFile(filepath.Join(d, file), []byte(value), 0))
				frozen = true
			}
		}
	}
	if !frozen {
		t.Fatal("no hierarchy can freeze")
	}
	must(t, Kill(g, 10*time.Second))
	cmd.Wait()
}

// A container may have made groups of its own.
func TestRemoveNested(t *testing.T) {
	g := group(t)
	for _, d := range dirsOf(t, g) {
		must(t, os.MkdirAll(filepath.Join(d, "a", "b"), 0o755))
		must(t, os.MkdirAll(filepath.Join(d, "c"), 0o755))
	}
	must(t, Remove(g))
}

func TestRemoveBusy(t *testing.T) {
	g := group(t)
	cmd := in(t, g, "exec sleep 1000")
	if err := Remove(g); err == nil || !strings.Contains(err.Error(), g) {
		t.Errorf("a group with a process in it: %v", err)
	}
	must(t, Kill(g, 10*time.Second))
	cmd.Wait()
}

func TestGroupThatIsNot(t *testing.T) {
	g := "/amphora-" + testenv.OwnID(t)
	pids, err := Pids(g)
	if len(pids) != 0 || err != nil {
		t.Errorf("pids %v, %v", pids, err)
	}
	if err := errors.Join(Kill(g, time.Second), Remove(g)); err != nil {
		t.Error(err)
	}
	if _, err := Read(g, "cgroup.procs"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if n := OOMKills(g); n != 0 {
		t.Errorf("%d", n)
	}
}

func TestBase(t *testing.T) {
	if got, err := Base("/some/parent", "01234567"); err != nil || got != "/some/parent/amphora-01234567" {
		t.Errorf("%q, %v", got, err)
	}
	for _, parent := range []string{"relative", "/a/../b", "/a/"} {
		if _, err := Base(parent, "01234567"); err == nil {
			t.Errorf("%q was taken", parent)
		}
	}
	got, err := Base("", "01234567")
	if err != nil || path.Base(got) != "amphora-01234567" || !path.IsAbs(got) {
		t.Errorf("%q, %v", got, err)
	}
}
