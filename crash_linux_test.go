package amphora_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/volume"
)

// op is one operation of a scenario. It finds the container by its label, so
// that it can be done again by whoever comes after a crash.
type op struct {
	name  string
	needs container.Status // in which the container must be; empty: any
	do    func(ctx context.Context, eng *amphora.Engine) error
	done  error // what it says when it was done already
}

// scenarios are what the kill matrix kills. The points are those that were
// seen when the scenario ran undisturbed: a new one is covered by being there.
var scenarios = []scenario{
	{name: "life", ops: []op{
		{name: "create", do: createBox, done: fs.ErrExist},
		{name: "start", do: onBox((*container.Container).Start), done: container.ErrRunning},
		{name: "exec", needs: container.Running, do: onBox(execTrue)},
		{name: "pause", needs: container.Running, do: onBox((*container.Container).Pause), done: container.ErrPaused},
		{name: "resume", needs: container.Paused, do: onBox((*container.Container).Resume), done: container.ErrRunning},
		{name: "rename", do: onBox(renameBox)},
		{name: "commit", needs: container.Running, do: onBox(commitBox)},
		{name: "update", needs: container.Running, do: onBox(updateBox)},
		{name: "stop", needs: container.Running, do: onBox(stopBox)},
		{name: "start again", do: onBox((*container.Container).Start), done: container.ErrRunning},
		{name: "kill", needs: container.Running, do: onBox(killBox), done: container.ErrNotRunning},
		{name: "remove", do: onBox(removeBox), done: fs.ErrNotExist},
		{name: "forget", do: forget, done: fs.ErrNotExist},
	}},
	{name: "restart", like: "life", ops: []op{
		{name: "create", do: createRestarting, done: fs.ErrExist},
		{name: "start", do: onBox((*container.Container).Start), done: container.ErrRunning},
		{name: "wait", do: onBox(waitBox)},
		{name: "remove", do: onBox(removeBox), done: fs.ErrNotExist},
	}},
	{name: "run", ops: []op{
		{name: "run", do: runBox},
	}},
	{name: "network", like: "life", ops: []op{
		{name: "make the network", do: createNetwork, done: fs.ErrExist},
		{name: "create", do: createWired, done: fs.ErrExist},
		{name: "start", do: onBox((*container.Container).Start), done: container.ErrRunning},
		{name: "disconnect", needs: container.Running, do: onBox(unplugBox), done: fs.ErrNotExist},
		{name: "connect", needs: container.Running, do: onBox(plugBox), done: fs.ErrExist},
		{name: "stop", needs: container.Running, do: onBox(stopBox)},
		{name: "remove", do: onBox(removeBox), done: fs.ErrNotExist},
		{name: "remove the network", do: removeNetwork, done: fs.ErrNotExist},
	}},
}

type scenario struct {
	name string
	like string // another: what was killed there is not killed here again
	ops  []op
}

func scenarioOf(name string) scenario {
	return scenarios[slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })]
}

// fresh leaves out the passages that were covered before, here or in the like
// scenario: those that follow upon the same other point.
func (s scenario) fresh(points []string, covered map[string]bool) []step.Plan {
	class, before := s.name, ""
	if s.like != "" {
		class = s.like
	}
	var plans []step.Plan
	for i, plan := range passages(points) {
		key := class + " " + before + " " + plan.Name
		if !strings.HasPrefix(points[i], "journal.") {
			before = points[i]
		}
		if !covered[key] && !(testing.Short() && strings.HasPrefix(points[i], "journal.")) {
			plans = append(plans, plan)
		}
		covered[key] = true
	}
	return plans
}

var boxLabel = map[string]string{"crash": "box"}

func onBox(f func(*container.Container, context.Context) error) func(context.Context, *amphora.Engine) error {
	return func(ctx context.Context, eng *amphora.Engine) error {
		c, err := findBox(ctx, eng)
		if err != nil {
			return err
		}
		return f(c, ctx)
	}
}

func findBox(ctx context.Context, eng *amphora.Engine) (*container.Container, error) {
	infos, err := eng.Containers().List(ctx, &container.Filter{Label: boxLabel})
	if err != nil {
		return nil, err
	}
	if len(infos) != 1 {
		return nil, fmt.Errorf("there are %d boxes: %w", len(infos), fs.ErrNotExist)
	}
	return eng.Containers().Get(ctx, infos[0].Name) // by name: it must lead there
}

func boxSpec() *container.Spec {
	spec := sleeper("box")
	spec.Labels = boxLabel
	spec.Mounts = []volume.Mount{{Type: volume.Named, Target: "/data"}, {Type: volume.Named, Source: "kept", Target: "/kept"}}
	return spec
}

func createBox(ctx context.Context, eng *amphora.Engine) error {
	_, err := eng.Containers().Create(ctx, boxSpec(), nil)
	return err
}

func createRestarting(ctx context.Context, eng *amphora.Engine) error {
	spec := boxSpec()
	spec.Mounts = nil
	spec.Command = []string{"false"}
	spec.Restart = container.Restart{Policy: "on-failure", MaxRetries: 1}
	_, err := eng.Containers().Create(ctx, spec, nil)
	return err
}

func execTrue(c *container.Container, ctx context.Context) error {
	return c.Command(ctx, "true").Run()
}

func renameBox(c *container.Container, ctx context.Context) error {
	i, err := c.Inspect(ctx)
	if err != nil || i.Name == "crate" {
		return err
	}
	return c.Rename(ctx, "crate")
}

func stopBox(c *container.Container, ctx context.Context) error {
	return c.Stop(ctx, &container.StopOptions{Signal: "SIGKILL"})
}

func killBox(c *container.Container, ctx context.Context) error {
	if err := c.Signal(ctx, "SIGKILL"); err != nil {
		return err
	}
	return waitBox(c, ctx)
}

func waitBox(c *container.Container, ctx context.Context) error {
	_, err := c.Wait(ctx, container.NotRunning)
	return err
}

func removeBox(c *container.Container, ctx context.Context) error {
	return c.Remove(ctx, &container.RemoveOptions{Volumes: true})
}

func forget(ctx context.Context, eng *amphora.Engine) error {
	return eng.Volumes().Remove(ctx, "kept")
}

func runBox(ctx context.Context, eng *amphora.Engine) error {
	cmd := eng.Command(ctx, testImage, "echo", "hello")
	cmd.Name, cmd.Labels = "box", boxLabel
	cmd.Mounts = []volume.Mount{{Type: volume.Named, Target: "/data"}}
	_, err := cmd.Output()
	return err
}

// play does the operations from number k on. The first may have been done
// before a crash: then it says so.
func play(ctx context.Context, eng *amphora.Engine, ops []op, k int, again bool, say io.Writer) error {
	for n := k; n < len(ops); n++ {
		o := ops[n]
		fmt.Fprintln(say, n)
		if again && o.needs != "" {
			if err := bring(ctx, eng, o.needs); err != nil {
				return fmt.Errorf("before %s: %w", o.name, err)
			}
		}
		err := o.do(ctx, eng)
		if err != nil && !(again && o.done != nil && errors.Is(err, o.done)) {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	return nil
}

// bring puts the box into a state that a crash has undone.
func bring(ctx context.Context, eng *amphora.Engine, want container.Status) error {
	c, err := findBox(ctx, eng)
	if err != nil {
		return err
	}
	i, err := c.Inspect(ctx)
	if err != nil {
		return err
	}
	switch {
	case i.Status == container.Created, i.Status == container.Exited:
		if err := c.Start(ctx); err != nil {
			return err
		}
		if want == container.Paused {
			return c.Pause(ctx)
		}
	case i.Status == container.Running && want == container.Paused:
		return c.Pause(ctx)
	}
	return nil
}

func scenarioChild(args []string) int {
	eng, err := amphora.Open(context.Background(), &amphora.Options{Root: args[1], State: args[2]})
	if err == nil {
		err = play(context.Background(), eng, scenarioOf(args[0]).ops, 0, false, os.Stdout)
	}
	if err == nil {
		err = eng.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// last is the number of the operation that was under way.
func last(said string) int {
	n := 0
	for f := range strings.FieldsSeq(said) {
		fmt.Sscan(f, &n)
	}
	return n
}

// passages numbers each point by how often it was passed before.
func passages(points []string) []step.Plan {
	seen := map[string]int{}
	var plans []step.Plan
	for _, p := range points {
		plans = append(plans, step.Plan{Name: p, At: seen[p]})
		seen[p]++
	}
	return plans
}

// TestProgramKilledAnywhere kills the program at every point that it passes.
func TestProgramKilledAnywhere(t *testing.T) {
	s := newStore(t)
	covered := map[string]bool{}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			eng := s.open(t)
			points := testenv.Points(func() {
				if err := play(t.Context(), eng, sc.ops, 0, false, io.Discard); err != nil {
					t.Fatal(err)
				}
			})
			s.truth(t, "undisturbed")
			for _, plan := range sc.fresh(points, covered) {
				plan.Alone = true
				r := testenv.RunChild(t, "scenario", plan, sc.name, s.opts.Root, s.opts.State)
				if !r.Killed {
					t.Errorf("%v: the program was not killed: exit code %d, %s", plan, r.Code, r.Stderr)
				}
				s.mended(t, sc.ops, last(r.Stdout), plan)
			}
		})
	}
}

// TestSupervisorKilledAnywhere kills the supervisor at every point that it
// passes, while the program goes on.
func TestSupervisorKilledAnywhere(t *testing.T) {
	s := newStore(t)
	covered := map[string]bool{}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			file := filepath.Join(s.dir, "points")
			defer os.Remove(file)
			if _, err := s.arm(t, sc.ops, step.Plan{Helper: true, List: file}); err != nil {
				t.Fatal(err)
			}
			s.truth(t, "undisturbed")
			for _, points := range helperPoints(t, file) {
				for _, plan := range sc.fresh(points, covered) {
					s.killHelper(t, sc.ops, plan, file)
				}
			}
		})
	}
}

func (s *store) killHelper(t *testing.T, ops []op, plan step.Plan, file string) {
	t.Helper()
	os.Remove(file)
	armed := plan
	armed.Helper, armed.List = true, file
	k, _ := s.arm(t, ops, armed)
	passed := func(points []string) bool { return slices.Contains(passages(points), plan) }
	if !slices.ContainsFunc(helperPoints(t, file), passed) {
		t.Errorf("%v was not passed", plan)
	}
	s.awaitDead(t)
	s.mended(t, ops, k, plan)
}

// arm plays the operations with a plan and says how far that went.
func (s *store) arm(t *testing.T, ops []op, plan step.Plan) (int, error) {
	t.Helper()
	eng := s.open(t)
	defer eng.Close()
	step.Arm(plan)
	defer step.Disarm()
	var said strings.Builder
	err := play(t.Context(), eng, ops, 0, false, &said)
	return last(said.String()), err
}

// helperPoints reads the points that each helper process passed.
func helperPoints(t *testing.T, file string) [][]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	number := map[string]int{}
	var all [][]string
	for in := bufio.NewScanner(f); in.Scan(); {
		pid, name, _ := strings.Cut(in.Text(), " ")
		n, ok := number[pid]
		if !ok {
			n, all = len(all), append(all, nil)
			number[pid] = n
		}
		all[n] = append(all[n], name)
	}
	return all
}

// mended checks what was left by a kill during operation k, and that this
// operation and those after it can be done now.
func (s *store) mended(t *testing.T, ops []op, k int, plan step.Plan) {
	t.Helper()
	when := fmt.Sprintf("killed at %s (passage %d) in %s", plan.Name, plan.At, ops[k].name)
	s.truth(t, when)
	eng := s.open(t)
	defer eng.Close()
	if err := play(t.Context(), eng, ops[:k+1], k, true, io.Discard); err != nil {
		t.Errorf("%s, done again: %v", when, err)
	}
	s.clear(t)
	for _, forget := range []func(context.Context, *amphora.Engine) error{forget, removeNetwork} {
		if err := forget(t.Context(), eng); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	s.truth(t, when+", done again")
	if !t.Failed() {
		t.Log(when + ": mended, done again")
	}
}

// awaitDead waits until nobody holds a container's life: while a killed
// supervisor dies it holds the lock, and is rightly taken for alive.
func (s *store) awaitDead(t *testing.T) {
	t.Helper()
	root := s.record(t)
	ids, err := root.IDs()
	must(t, err)
	for _, id := range ids {
		until(t, "the supervisor is dead", func() bool {
			held, err := flock.Held(root.Path(id, "alive"))
			return err == nil && !held
		})
	}
}
