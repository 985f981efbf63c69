//go:build unix

package logs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/step"
)

// crashArg makes this test binary write a log until it is killed at a named
// point. It prints each line after it was written.
const crashArg = "-amphora-logs-crash"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == crashArg {
		at, _ := strconv.Atoi(os.Args[4])
		crashingWriter(os.Args[2], step.Plan{Name: os.Args[3], At: at})
	}
	os.Exit(m.Run())
}

var crashOptions = &Options{MaxSize: 400, MaxFile: 4}

func crashingWriter(path string, plan step.Plan) {
	w, err := Open(path, crashOptions)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	step.Arm(plan)
	for i := range 100 {
		if err := w.Write(Stdout, fmt.Appendf(nil, "%d\n", i), noon); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		fmt.Println(i)
	}
	os.Exit(0)
}

// TestKilledWhileRotating: wherever the writer is killed, no line that was
// written is missing but those of files rotated away, a reader that follows
// goes on, and the next writer mends the files.
func TestKilledWhileRotating(t *testing.T) {
	points := map[string]int{}
	step.Observe(func(name string) { points[name]++ })
	w, _ := newWriter(t, crashOptions)
	for i := range 40 {
		write(t, w, Stdout, strconv.Itoa(i)+"\n")
	}
	step.Disarm()
	for _, name := range []string{"log.rotate.created", "log.rotate.shift", "log.rotate.shifted"} {
		if points[name] == 0 {
			t.Errorf("rotation does not pass %s", name)
		}
	}
	for name, n := range points {
		for at := range min(n, 12) {
			t.Run(fmt.Sprint(name, " ", at), func(t *testing.T) { killAndMend(t, name, at) })
		}
	}
}

func killAndMend(t *testing.T, point string, at int) {
	path := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(os.Args[0], crashArg, path, point, strconv.Itoa(at))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the writer ended with %v", err)
	}
	written := strings.Count(string(out), "\n")
	followed := consecutive(t, path)
	if last := followed[len(followed)-1]; last != written-1 {
		t.Fatalf("last line read is %d, %d were written", last, written)
	}

	done := make(chan struct{})
	rest := make(chan []Entry)
	go func() { rest <- all(t, path, &ReadOptions{Tail: 1, Follow: true, Done: done}) }()
	w, err := Open(path, crashOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := written; i < written+9; i++ { // more than one file
		write(t, w, Stdout, strconv.Itoa(i)+"\n")
	}
	w.Close()
	close(done)
	if got := <-rest; string(got[len(got)-1].Line) != strconv.Itoa(written+8)+"\n" {
		t.Errorf("the follower ends at %q", got[len(got)-1].Line)
	}
	if got := consecutive(t, path); got[len(got)-1] != written+8 {
		t.Errorf("last line is %d, want %d", got[len(got)-1], written+8)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 4 {
		t.Errorf("files: %v", entries)
	}
}

// consecutive reads the whole log, which must be numbers without a gap.
func consecutive(t *testing.T, path string) []int {
	t.Helper()
	var out []int
	for _, line := range texts(all(t, path, nil)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || len(out) > 0 && n != out[len(out)-1]+1 {
			t.Fatalf("%q after %v", line, out)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		t.Fatal("nothing left")
	}
	return out
}
