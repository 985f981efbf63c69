package run

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

// runChild executes one command: root, state, the tree, and a directory for the
// layer.
func runChild(args []string) int {
	err := func() error {
		root, err := record.OpenRoot(context.Background(), args[0], args[1])
		if err != nil {
			return err
		}
		r := New(root, nil)
		defer r.Close()
		return r.Run(context.Background(), &Step{Exec: &op.Exec{Args: []string{"sh", "-c", "echo done >/made"}, Network: "none", StubsRecursive: true},
			Root: Tree{Lower: []string{args[2]}}, Layer: &Layer{Upper: args[3] + "/upper", Work: args[3] + "/work"}})
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Whoever is killed, this process or the supervisor, at whatever step: once
// somebody has looked nothing is left, and the next command runs.
func TestKilled(t *testing.T) {
	b := newBench(t)
	args := func() []string { return []string{b.root.Dir, b.root.State, b.base, t.TempDir()} }
	for _, point := range []string{"run.created", "run.ended", "build.trees", "build.unmounted", "start.created"} {
		for _, plan := range []step.Plan{{Name: point, Alone: true}, {Name: point, Helper: true}} {
			res := testenv.RunChild(t, "run", plan, args()...)
			t.Logf("%s helper=%v: killed %v, code %d %s", point, plan.Helper, res.Killed, res.Code, res.Stderr)
			// A supervisor that lives removes what is its own; nobody waits for it.
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if _, err := recovery.All(t.Context(), b.root); err != nil {
					t.Fatal(err)
				}
				if left, err := os.ReadDir(b.root.Containers()); err != nil || len(left) == 0 {
					break
				}
			}
			b.clean()
			if t.Failed() {
				t.Fatalf("after a kill at %s, helper %v", point, plan.Helper)
			}
		}
	}
	if res := testenv.RunChild(t, "run", step.Plan{}, args()...); res.Code != 0 {
		t.Errorf("afterwards: %d %s", res.Code, res.Stderr)
	}
}
