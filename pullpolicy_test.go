package amphora_test

import (
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/testenv"
)

// What is there is used without a word to the registry, unless that is asked
// for.
func TestPullPolicyTraffic(t *testing.T) {
	reg := testenv.NewRegistry(t, nil)
	reg.Push(t, "app", "v1", testenv.Image{})
	dir := t.TempDir()
	eng, err := amphora.Open(t.Context(), &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	name := reg.Host + "/app:v1"
	prepare := func(policy container.PullPolicy) (requests int) {
		t.Helper()
		before := len(reg.Requests(""))
		cmd := eng.Command(t.Context(), name)
		cmd.Pull = policy
		if err := cmd.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(reg.Requests("")) - before
	}
	if n := prepare(container.PullNever); n != 0 {
		t.Errorf("never: %d requests", n)
	}
	if n := prepare(""); n == 0 {
		t.Error("missing, and not there: no requests")
	}
	for policy, quiet := range map[container.PullPolicy]bool{"": true, container.PullMissing: true, container.PullNever: true, container.PullAlways: false} {
		if n := prepare(policy); (n == 0) != quiet {
			t.Errorf("policy %q: %d requests for an image that is there", policy, n)
		}
	}
}
