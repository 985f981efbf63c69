package testenv

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/step"
)

func TestMain(m *testing.M) {
	Child("steps", func(args []string) int {
		for _, name := range args {
			step.At(name)
		}
		return 0
	})
	Main(m)
}

func TestChildDiesAtItsStep(t *testing.T) {
	for _, c := range []struct {
		plan   step.Plan
		killed bool
	}{
		{step.Plan{}, false},
		{step.Plan{Name: "b"}, true},
		{step.Plan{Name: "b", At: 1}, true},
		{step.Plan{Name: "b", At: 2}, false},
		{step.Plan{Name: "elsewhere"}, false},
	} {
		r := RunChild(t, "steps", c.plan, "a", "b", "b")
		if r.Killed != c.killed || (r.Code == 0) == c.killed {
			t.Errorf("%+v: %+v, want killed %v", c.plan, r, c.killed)
		}
	}
	if r := RunChild(t, "nobody", step.Plan{}); r.Code != 125 {
		t.Errorf("a child that is not registered: %+v, want code 125", r)
	}
}

func TestPoints(t *testing.T) {
	got := Points(func() { step.At("one"); step.At("two"); step.At("one") })
	if !slices.Equal(got, []string{"one", "two", "one"}) {
		t.Fatal(got)
	}
}

func TestDirIsShortAndRemoved(t *testing.T) {
	var dir string
	t.Run("a name that is much longer than any unix socket address could bear", func(t *testing.T) {
		dir = Dir(t)
		if base := os.Getenv("TMPDIR"); len(dir)-len(base) > 8 {
			t.Errorf("%s is long", dir)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("%s after its test: %v", dir, err)
	}
}

func TestRootfsHoldsWhatTheTarDoes(t *testing.T) {
	dir := Rootfs(t, File{Name: "etc/motd", Data: []byte("hello"), Mode: 0o600})
	r := tar.NewReader(bytes.NewReader(RootfsTar(t)))
	seen := 0
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, h.Name)); err != nil {
			t.Error(err)
		}
		seen++
	}
	if seen < 60 {
		t.Errorf("%d entries", seen)
	}
	if info, err := os.Stat(filepath.Join(dir, "tmp")); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		if runtime.GOOS == "linux" {
			t.Errorf("/tmp: %v %v", info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "etc/motd")); err != nil || info.Size() != 5 {
		t.Errorf("/etc/motd: %v", err)
	}
}

// TestBox runs the shell and applets that other tests lean on.
func TestBox(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux: the program of the test images is a Linux program")
	}
	bin := filepath.Join(Rootfs(t), "bin")
	for _, c := range []struct {
		script, want string
		code         int
	}{
		{`echo "a  b" 'c $X' d\ e`, "a  b c $X d e\n", 0},
		{`X=3; echo ${X}4 "$X" ${Y:-none}`, "34 3 none\n", 0},
		{`false && echo no || echo yes; true || echo no`, "yes\n", 0},
		{`nosuch 2>&1; echo $?`, "sh: nosuch: not found\n127\n", 0},
		{`! false && echo turned; exit 7`, "turned\n", 7},
		{`V=inner env sh -c 'echo $V'; echo "[$V]"`, "inner\n[]\n", 0},
		{`echo to >&2; echo one > f; echo two >> f; cat < f; rm f`, "one\ntwo\n", 0},
		{"# nothing\necho x # rest\n", "x\n", 0},
		{`kill $$`, "", 143},
		{`[ a = a ] && test -d / && echo ok`, "ok\n", 0},
		{`spew 3 x; spew -n 1 y`, "1 x\n2 x\n3 x\n1 y", 0},
		{`fill f 70k; stdin-count < f; rm -f f nothing`, "71680 ", 0},
		{`'no end`, "", 2},
	} {
		cmd := exec.Command(filepath.Join(bin, "sh"), "-c", c.script)
		cmd.Dir, cmd.Env = t.TempDir(), []string{"PATH=" + bin}
		out, _ := cmd.Output()
		code := cmd.ProcessState.ExitCode()
		if killedBy := codeOfState(cmd.ProcessState); killedBy > 0 {
			code = 128 + killedBy
		}
		if code != c.code || !strings.HasPrefix(string(out), c.want) || c.want == "" && len(out) > 0 {
			t.Errorf("%s\ngives %q, code %d; want %q, code %d", c.script, out, code, c.want, c.code)
		}
	}
}
