package amphora_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/internal/testenv"
)

// On a machine where the tests run containers, nothing that is needed lacks.
func TestCheckFindsNothingNeeded(t *testing.T) {
	testenv.Root(t)
	dir := testenv.Dir(t)
	eng, err := amphora.Open(t.Context(), &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	found, err := eng.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Log(f)
		if f.Needed {
			t.Errorf("%v", f)
		}
		if f.Cure == "" || f.Problem == "" {
			t.Errorf("a finding without problem or cure: %+v", f)
		}
	}
	left, err := filepath.Glob(filepath.Join(eng.Root(), ".check-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("Check left %v (%v)", left, err)
	}
}

// A store below the executable's directory costs every start a copy of the
// executable: Check says so.
func TestCheckFindsNestedDirectories(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(exe), "nested")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	eng, err := amphora.Open(t.Context(), &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	found, err := eng.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Name == "directories" && strings.Contains(f.Problem, dir) {
			return
		}
	}
	t.Errorf("findings: %v", found)
}
