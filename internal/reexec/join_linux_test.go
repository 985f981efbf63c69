//go:build cgo

package reexec

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// child runs this program as libcontainer would, with orders, and returns what
// it says. The other end of its init pipe is closed: libcontainer's
// constructor, which runs after ours, ends it.
func child(t *testing.T, orders []byte) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.Write(orders)
	initR, initW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	initW.Close()
	defer initR.Close()
	logR, logW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer logR.Close()
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.ExtraFiles = []*os.File{file, initR, logW}
	cmd.Env = []string{"_LIBCONTAINER_INITPIPE=4", "_LIBCONTAINER_SYNCPIPE=4", "_LIBCONTAINER_LOGPIPE=5", "_LIBCONTAINER_LOGLEVEL=3"}
	err = cmd.Run()
	logW.Close()
	text, _ := io.ReadAll(logR)
	if err == nil {
		t.Errorf("the child ended well: %s", text)
	}
	return string(text)
}

func TestJoinsBeforeAllElse(t *testing.T) {
	dir := t.TempDir()
	var groups []string
	for _, name := range []string{"a", "b"} {
		groups = append(groups, filepath.Join(dir, name))
		if err := os.WriteFile(groups[len(groups)-1], nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	child(t, Encode(&Orders{Groups: groups}))
	for _, g := range groups {
		if b, err := os.ReadFile(g); err != nil || string(b) != "0" {
			t.Errorf("%s: %q %v", g, b, err)
		}
	}
}

func TestEndsIfItCannotJoin(t *testing.T) {
	dir := t.TempDir()
	after := filepath.Join(dir, "after")
	if err := os.WriteFile(after, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := child(t, Encode(&Orders{Groups: []string{dir + `/no"such`, after}}))
	want := `{"level":"fatal","msg":"join the control group ` + dir + `/no?such: No such file or directory"}` + "\n"
	if text != want {
		t.Errorf("the child says %q, not %q", text, want)
	}
	if b, _ := os.ReadFile(after); len(b) > 0 {
		t.Error("the child went on")
	}
}

func TestJoinsNothingForOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "group")
	orders := Encode(&Orders{Groups: []string{file}})
	orders[0]++
	if text := child(t, orders); strings.Contains(text, "join") {
		t.Errorf("orders of somebody else were followed: %s", text)
	}
}
