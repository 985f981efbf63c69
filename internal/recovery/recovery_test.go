package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/internal/volumes"
)

func TestMain(m *testing.M) {
	testenv.Child("recover", recoverChild)
	testenv.Main(m)
}

func recoverChild(args []string) int {
	root, err := record.OpenRoot(context.Background(), args[0], args[1])
	if err == nil {
		_, err = recovery.All(context.Background(), root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newRoot(t *testing.T) *record.Root {
	t.Helper()
	dir := testenv.Dir(t)
	root, err := record.OpenRoot(t.Context(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lost makes a container whose supervisor is gone: it never was one here.
func lost(t *testing.T, root *record.Root, c *record.Container) string {
	t.Helper()
	l, err := root.Create(t.Context(), c, &record.Config{}, []byte("{}"))
	must(t, err)
	must(t, l.Release())
	boot, err := proc.BootID()
	must(t, err)
	run := &record.Run{Boot: boot, Status: record.Running, Shim: deadProcess(t), ShimStart: 1}
	must(t, root.Begin(c, run))
	must(t, root.Started(t.Context(), c, run))
	must(t, os.WriteFile(root.Socket(c.ID), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(root.RuntimeDir(), c.ID), 0o700))
	return c.ID
}

func deadProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.list", "none")
	must(t, cmd.Run())
	return cmd.Process.Pid
}

func TestLostContainerIsMendedByItsReader(t *testing.T) {
	root := newRoot(t)
	id := lost(t, root, &record.Container{Name: "lost"})
	s, err := recovery.Judge(t.Context(), root, id)
	must(t, err)
	if s.Status != record.Exited || s.Run != nil || s.Exit == nil || !s.Exit.Unknown || s.Exit.Code != 137 {
		t.Errorf("%+v, exit %+v", s, s.Exit)
	}
	for _, path := range []string{root.Socket(id), filepath.Join(root.RuntimeDir(), id), root.Path(id, "run.json")} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	last, err := root.Log.LastOf(t.Context(), "container", id)
	if err != nil || last.Action != "die" || last.Seq != s.Exit.Seq {
		t.Errorf("last event %+v, %v", last, err)
	}
}

// While somebody recovers a container he holds its alive lock: nobody may take
// that for life.
func TestRecoveredIsNotRunning(t *testing.T) {
	root := newRoot(t)
	id := lost(t, root, &record.Container{})
	alive, err := root.TryAlive(id)
	must(t, err)
	s, err := root.Judge(id)
	if err != nil || !s.Lost {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := recovery.Container(t.Context(), root, id); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := recovery.Judge(ctx, root, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a reader that must wait: %v", err)
	}
	must(t, alive.Release())
	if s, err := recovery.Judge(t.Context(), root, id); err != nil || s.Status != record.Exited {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestManyReadersMendOnce(t *testing.T) {
	root := newRoot(t)
	id := lost(t, root, &record.Container{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			s, err := recovery.Judge(t.Context(), root, id)
			if err != nil || s.Status != record.Exited || s.Exit == nil {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
	wg.Wait()
	dies := 0
	for ev, err := range root.Log.Read(t.Context(), nil) {
		must(t, err)
		if ev.Action == "die" {
			dies++
		}
	}
	if dies != 1 {
		t.Errorf("it died %d times", dies)
	}
}

// TestKilledWhileRecovering kills a recovery at every point: the next one
// finishes it.
func TestKilledWhileRecovering(t *testing.T) {
	for name, c := range map[string]record.Container{
		"kept":    {Name: "kept"},
		"removed": {Name: "removed", AutoRemove: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			prepare := func() string {
				claim, err := volumes.Open(root).Ensure(t.Context(), &volumes.Spec{Anonymous: true})
				must(t, err)
				c := c
				c.Volumes = []record.Use{{Name: claim.Name, Target: "/v", Anonymous: true}}
				id := lost(t, root, &c)
				must(t, claim.Release())
				return id
			}
			id := prepare()
			points := testenv.Points(func() {
				if _, err := recovery.All(t.Context(), root); err != nil {
					t.Error(err)
				}
			})
			check(t, root, id, c.AutoRemove, "undisturbed")
			seen := map[string]int{}
			for _, p := range points {
				plan := step.Plan{Name: p, At: seen[p]}
				seen[p]++
				id := prepare()
				if r := testenv.RunChild(t, "recover", plan, root.Dir, root.State); !r.Killed {
					t.Errorf("%+v: not killed: %+v", plan, r)
				}
				_, err := recovery.All(t.Context(), root)
				must(t, err)
				check(t, root, id, c.AutoRemove, fmt.Sprintf("killed at %s (passage %d)", plan.Name, plan.At))
			}
		})
	}
}

// check looks at a container after its recovery, and removes it.
func check(t *testing.T, root *record.Root, id string, gone bool, when string) {
	t.Helper()
	s, err := recovery.Judge(t.Context(), root, id)
	switch {
	case gone && !errors.Is(err, os.ErrNotExist):
		t.Errorf("%s: it is there: %+v, %v", when, s, err)
	case !gone && (err != nil || s.Status != record.Exited || s.Exit == nil || !s.Exit.Unknown):
		t.Errorf("%s: %+v, %v", when, s, err)
	case !gone:
		alive, err := root.TryAlive(id)
		must(t, err)
		l, err := root.Lock(t.Context(), id)
		must(t, err)
		empty, err := recovery.Remove(t.Context(), root, s.Container, true)
		must(t, err)
		must(t, empty())
		l.Release()
		alive.Release()
	}
	actions := ""
	for ev, err := range root.Log.Read(t.Context(), nil) {
		must(t, err)
		if ev.ID == id {
			actions += ev.Action + " "
		}
	}
	if actions != "create start die destroy " {
		t.Errorf("%s: events %s", when, actions)
	}
	for _, dir := range []string{root.Containers(), filepath.Join(root.Dir, "names"), filepath.Join(root.Dir, "volumes"), filepath.Join(root.Dir, "trash"), filepath.Join(root.State, "s"), root.RuntimeDir()} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != ".lock" {
				t.Errorf("%s: left: %s", when, filepath.Join(dir, e.Name()))
			}
		}
	}
}

// A restart that its supervisor did not live to make is told by the exit.
func TestLostBetweenTwoRuns(t *testing.T) {
	root := newRoot(t)
	c := &record.Container{Restart: record.Restart{Policy: "always"}}
	id := lost(t, root, c)
	exit := &record.Exit{Code: 3, Again: true}
	must(t, root.Exited(t.Context(), c, exit, nil))
	for _, begun := range []bool{false, true} {
		if begun {
			boot, err := proc.BootID()
			must(t, err)
			must(t, root.Begin(c, &record.Run{Boot: boot, Status: record.Restarting, Shim: deadProcess(t), ShimStart: 1}))
		}
		s, err := recovery.Judge(t.Context(), root, id)
		if err != nil || s.Status != record.Exited || s.Exit.Code != 3 || !s.Exit.Again || s.Exit.Unknown {
			t.Errorf("begun: %v: %+v, exit %+v, %v", begun, s, s.Exit, err)
		}
		if run, err := root.LoadRun(id); run != nil || err != nil {
			t.Errorf("begun: %v: left %+v, %v", begun, run, err)
		}
	}
}

func TestRemovalKeepsVolumesThatItDidNotTake(t *testing.T) {
	root := newRoot(t)
	store := volumes.Open(root)
	claim, err := store.Ensure(t.Context(), &volumes.Spec{Anonymous: true})
	must(t, err)
	c := &record.Container{Volumes: []record.Use{{Name: claim.Name, Target: "/v", Anonymous: true}}}
	l, err := root.Create(t.Context(), c, &record.Config{}, []byte("{}"))
	must(t, err)
	must(t, claim.Release())
	must(t, root.MarkRemoving(c, false)) // and killed here
	must(t, l.Release())
	if _, err := recovery.Judge(t.Context(), root, c.ID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	_, err = recovery.All(t.Context(), root)
	must(t, err)
	if _, err := store.Get(t.Context(), claim.Name); err != nil {
		t.Errorf("its volume: %v", err)
	}
}
