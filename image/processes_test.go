package image

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Real processes on one Root: each layer is fetched once, and removals by one
// take nothing from the others.
func TestProcessesShareOneRoot(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	layers := [][]byte{noise(t, "lower", 900_000), noise(t, "upper2", 700_000), noise(t, "top", 500_000)}
	pushed := r.push("app", "v1", "", layers...)
	saved := filepath.Join(t.TempDir(), "saved.tar")
	if err := os.WriteFile(saved, dockerArchive(t, []string{"saved:1"}, layers[0], layers[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	root, state := t.TempDir(), t.TempDir()
	s := openTest(t, &Options{Root: root, State: state})
	importTest(t, s, "base:one", "1")
	var wg sync.WaitGroup
	for _, op := range []string{"pull", "load", "pull", "remove", "pull", "load", "collect", "pull", "collect"} {
		text, err := json.Marshal(crashPlan{Op: op, Root: root, State: state, Registry: r.host(), File: saved})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), crashEnv+"="+string(text))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", op, err, out)
			}
		})
	}
	wg.Wait()
	for _, l := range pushed.layers {
		if n := r.count("GET blobs " + string(l.Digest)); n != 1 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
	}
	checkStore(t, s)
	if _, err := s.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	checkStore(t, s)
	if left := leftovers(t, root); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
