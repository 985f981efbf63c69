// Package testenv is the ground that amphora's tests stand on: directories
// short enough for unix sockets, root file systems and images made of one
// static Go program, an in-process registry, child processes that die at a
// named step, and a TestMain that fails when a test leaves anything behind.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// Nothing here reaches beyond this machine, and nothing but this package reads
// its environment variables.
package testenv

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// runDir holds every temporary file of this test run; empty where Main was not
// used. It is set once, before tests run.
var runDir string

var (
	dirMu   sync.Mutex // guards dirNext
	dirNext int
)

// Dir makes an empty directory with a path short enough for the sockets of a
// State directory (an AF_UNIX path ends at 107 bytes, and t.TempDir carries
// the whole name of the test). Roots must be made below it: its removal is
// what tells the leak check which Roots this run had. It is removed when the
// test ends; a mount left in it fails the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		recordRoots(dir)
		if left := mountsBelow(dir); len(left) > 0 {
			t.Errorf("still mounted when the test ended:\n  %s", strings.Join(left, "\n  "))
			return // removing now would delete what is mounted there
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	return dir
}

func makeDir() (string, error) {
	if runDir == "" {
		dir, err := os.MkdirTemp("", "ampt")
		if err != nil {
			return "", err
		}
		return dir, os.Chmod(dir, 0o755)
	}
	for {
		dirMu.Lock()
		dirNext++
		dir := filepath.Join(runDir, fmt.Sprintf("d%d", dirNext))
		dirMu.Unlock()
		err := os.Mkdir(dir, 0o755)
		if !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
}

// OwnID makes up the 8-hex id of a Root and tells the leak check that whatever
// carries it on this host (cgroups, links, mounts) belongs to this run. Tests
// of internal packages that need such names without a Root use it.
func OwnID(t testing.TB) string {
	t.Helper()
	b := make([]byte, 4)
	rand.Read(b)
	id := hex.EncodeToString(b)
	if err := recordID(id); err != nil {
		t.Fatal(err)
	}
	return id
}

// Files of this package itself in the directory of the run begin with a dot.
const (
	ownPrefix = "."
	idsFile   = ownPrefix + "ids"
)

func recordID(id string) error {
	if runDir == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(runDir, idsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(id + "\n")
	return errors.Join(err, f.Close())
}

// recordRoots notes the ids of the Roots below dir, before they are removed.
func recordRoots(dir string) {
	for _, id := range rootIDs(dir) {
		recordID(id)
	}
}

var rootID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// rootIDs finds engine.json files at most three levels below dir and reads
// their ids: any top-level string of 8 hex digits, so that this package need
// not know the format.
func rootIDs(dir string) []string {
	var ids []string
	for _, pattern := range []string{"engine.json", "*/engine.json", "*/*/engine.json", "*/*/*/engine.json"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range found {
			data, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			var fields map[string]any
			if json.Unmarshal(data, &fields) != nil {
				continue
			}
			for _, v := range fields {
				if s, ok := v.(string); ok && rootID.MatchString(s) {
					ids = append(ids, s)
				}
			}
		}
	}
	return ids
}
