package testenv

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/flock"
)

// boxSource is compiled on the machine that runs the tests: no binary in the
// repository, and any architecture that Go knows.
//
//go:embed testbox/*.go
var boxSource embed.FS

// box is the program and the names it answers to.
type box struct {
	path    string
	applets []string
}

var buildOnce = sync.OnceValues(buildBox)

// Box returns the path of the static multi-call program of the test images and
// the names of its applets (see testbox for what each does). It is compiled
// once for each machine, Go version and source, by whichever test binary comes
// first.
func Box(t testing.TB) (path string, applets []string) {
	t.Helper()
	b, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b.path, b.applets
}

func buildBox() (box, error) {
	sources, err := boxSource.ReadDir("testbox")
	if err != nil {
		return box{}, err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH)
	files := map[string][]byte{"go.mod": []byte("module testbox\n\ngo 1.24\n")}
	for _, s := range sources {
		data, err := boxSource.ReadFile("testbox/" + s.Name())
		if err != nil {
			return box{}, err
		}
		files[s.Name()] = data
		fmt.Fprintf(sum, "%s %d\n%s", s.Name(), len(data), data)
	}
	dir, err := boxDir(hex.EncodeToString(sum.Sum(nil))[:20])
	if err != nil {
		return box{}, err
	}
	b := box{path: filepath.Join(dir, "testbox")}
	lock, err := flock.Acquire(context.Background(), filepath.Join(dir, "lock"), flock.Exclusive)
	if err != nil {
		return box{}, err
	}
	defer lock.Release()
	if _, err := os.Stat(b.path); err != nil {
		if err := compileBox(dir, files); err != nil {
			return box{}, fmt.Errorf("compile the program of the test images: %w", err)
		}
	}
	b.applets, err = boxApplets(files["main_linux.go"])
	return b, err
}

// boxDir is the cache of one version below the user's cache directory, which
// outlives a run. Where there is none (no HOME) the run compiles its own: a
// well-known name in a directory that all users write to could be another's.
func boxDir(key string) (string, error) {
	if base, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(base, "amphora-test", "testbox-"+key)
		if os.MkdirAll(dir, 0o755) == nil {
			return dir, nil
		}
	}
	if runDir == "" {
		return os.MkdirTemp("", "ampt")
	}
	dir := filepath.Join(runDir, ownPrefix+"testbox")
	return dir, os.MkdirAll(dir, 0o755)
}

func compileBox(dir string, files map[string][]byte) error {
	src, err := os.MkdirTemp(dir, "src")
	if err != nil {
		return err
	}
	defer os.RemoveAll(src)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", "testbox", ".")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=-buildvcs=false", "GOWORK=off", "GO111MODULE=on")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return os.Rename(filepath.Join(src, "testbox"), filepath.Join(dir, "testbox"))
}

// boxApplets reads the names from the source: the program itself cannot be
// asked on another system than Linux.
func boxApplets(source []byte) ([]string, error) {
	_, table, ok := strings.Cut(string(source), "applets = map[string]func([]string) int{")
	table, _, end := strings.Cut(table, "\n\t}\n")
	if !ok || !end {
		return nil, errors.New("testbox: its table of applets is not where it was")
	}
	var names []string
	for i, s := range strings.Split(table, `"`) {
		if i%2 == 1 {
			names = append(names, s)
		}
	}
	slices.Sort(names)
	return names, nil
}
