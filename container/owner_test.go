//go:build linux

package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

func init() { testenv.Child("owner", ownerChild) }

// ownerChild starts an owned and a detached container in the store below
// args[0], prints their ids, and lives until its input ends. With "fork" it
// leaves a child behind that inherits all it can.
func ownerChild(args []string) int {
	ctx := context.Background()
	m, err := openManager(ctx, args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, owned := range []bool{true, false} {
		c, err := m.Create(ctx, &Spec{Image: "box", Process: Process{Command: []string{"pause"}}}, &CreateOptions{Owned: owned})
		if err == nil {
			err = c.Start(ctx)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(c.ID())
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	return 0 // without Close, as a program that forgets it
}

func TestOwnerDies(t *testing.T) {
	for _, how := range []string{"end", "kill"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t)
			cmd := testenv.ChildCommand(t, "owner", step.Plan{}, b.dir)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			var cs []*Container
			for len(cs) < 2 && lines.Scan() {
				c, err := b.Get(t.Context(), lines.Text())
				if err != nil {
					t.Fatalf("%s: %v", lines.Text(), err)
				}
				cs = append(cs, c)
				t.Cleanup(func() { c.Remove(context.Background(), &RemoveOptions{Force: true}) })
			}
			if len(cs) < 2 {
				t.Fatal("the owner did not start")
			}
			if how == "kill" {
				cmd.Process.Kill()
			}
			in.Close()
			cmd.Wait()
			if exit := wait(t, cs[0]); exit.Code != 137 {
				t.Errorf("the owned container: %+v", exit)
			}
			if got := inspect(t, cs[1]).Status; got != Running {
				t.Errorf("the detached container is %s", got)
			}
		})
	}
}

func (b *bench) owned(t *testing.T, opts CreateOptions) *Container {
	t.Helper()
	opts.Owned = true
	c, err := b.Create(t.Context(), &Spec{Image: "box", Process: Process{Command: []string{"pause"}}}, &opts)
	if err == nil {
		err = c.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManagerCloses(t *testing.T) {
	b := newBench(t)
	c := b.owned(t, CreateOptions{})
	detached := b.start(t, Spec{}, "pause")
	other, err := openManager(t.Context(), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := other.Get(t.Context(), c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, seen); exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
	if got := inspect(t, detached).Status; got != Running {
		t.Errorf("detached: %s", got)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestCoOwner(t *testing.T) {
	b := newBench(t)
	c := b.owned(t, CreateOptions{})
	other, err := openManager(t.Context(), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	theirs, err := other.Get(t.Context(), c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Own(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// The first owner is gone and noticed, the container lives: an exec is an
	// answer of its supervisor after that.
	for range 3 {
		execOutput(t, theirs, "true")
	}
	if got := inspect(t, theirs).Status; got != Running {
		t.Errorf("status %s with an owner left", got)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, theirs); exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
}

func TestLinger(t *testing.T) {
	b := newBench(t)
	c := b.owned(t, CreateOptions{Linger: time.Hour})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // time to do wrong; right is to do nothing
	if got := inspect(t, c).Status; got != Running {
		t.Errorf("status %s", got)
	}
	if err := c.Remove(t.Context(), &RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	short := b.owned(t, CreateOptions{Linger: 50 * time.Millisecond})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, short); exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
}

// A killed supervisor takes its container with it.
func TestParentDeath(t *testing.T) {
	b := newBench(t)
	for _, spec := range []Spec{{}, {Init: true}, {Process: Process{User: "alice"}}} {
		c := b.start(t, spec, "pause")
		pid := inspect(t, c).Pid
		st, err := proc.ReadStat(pid)
		if err != nil {
			t.Fatal(err)
		}
		if name := hostFile(t, fmt.Sprintf("/proc/%d/comm", st.PPid)); !strings.HasPrefix(name, "amphora-shim") {
			t.Fatalf("the parent of process 1 is %q", name)
		}
		if err := syscall.Kill(st.PPid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "process 1 is dead", func() bool { return !proc.Alive(pid, st.StartTime) })
		if exit := wait(t, c); !exit.Unknown || exit.Code != 137 {
			t.Errorf("exit %+v", exit)
		}
	}
}

func TestAutoRemove(t *testing.T) {
	b := newBench(t)
	c, err := b.Create(t.Context(), &Spec{Image: "box", AutoRemove: true, Process: Process{Command: []string{"exit", "4"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.StartAttached(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := a.Wait(t.Context()); err != nil || exit.Code != 4 {
		t.Errorf("%+v, %v", exit, err)
	}
	if _, err := c.Inspect(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
