package amphora_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// holderChild starts a container and stays there: "owned" or "detached".
func holderChild(args []string) int {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, &amphora.Options{Root: args[1], State: args[2]})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c, err := eng.Containers().Create(ctx, sleeper("held"), &container.CreateOptions{Owned: args[0] == "owned"})
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// hold runs holderChild, with another executable if exe is not empty, until its
// container runs.
func (s *store) hold(t *testing.T, how, exe string) *exec.Cmd {
	t.Helper()
	cmd := testenv.ChildCommand(t, "holder", step.Plan{}, how, s.opts.Root, s.opts.State)
	if exe != "" {
		cmd.Path = exe
	}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	return cmd
}

func kill9(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Process.Kill())
	cmd.Wait()
}

// say has the container's first process write a line, as it were.
func say(t *testing.T, c *container.Container, line string) {
	t.Helper()
	must(t, c.Command(t.Context(), "sh", "-c", "echo "+line+" > /proc/1/fd/1").Run())
}

func logged(t *testing.T, c *container.Container) string {
	t.Helper()
	var b strings.Builder
	for e, err := range c.Logs(t.Context(), nil) {
		must(t, err)
		b.Write(e.Line)
	}
	return b.String()
}

func TestDetachedContainerOutlivesItsProgram(t *testing.T) {
	s := newStore(t)
	cmd := s.hold(t, "detached", "")
	eng := s.open(t)
	c, err := eng.Containers().Get(t.Context(), "held")
	must(t, err)
	say(t, c, "before")
	kill9(t, cmd)
	s.truth(t, "program killed")
	if i := inspect(t, c); i.Status != container.Running {
		t.Fatalf("%+v", i)
	}
	say(t, c, "after")
	until(t, "the log grows", func() bool { return logged(t, c) == "before\nafter\n" })
	must(t, c.Stop(t.Context(), nil))
	if i := inspect(t, c); i.Status != container.Exited || i.Exit.Code != 143 || i.Exit.Unknown {
		t.Errorf("%+v, exit %+v", i, i.Exit)
	}
	s.truth(t, "stopped")
}

func TestOwnedContainerDiesWithItsProgram(t *testing.T) {
	s := newStore(t)
	cmd := s.hold(t, "owned", "")
	c, err := s.open(t).Containers().Get(t.Context(), "held")
	must(t, err)
	kill9(t, cmd)
	exit, err := c.Wait(t.Context(), container.NotRunning)
	must(t, err)
	if exit.Code != 137 || exit.Unknown {
		t.Errorf("exit %+v", exit)
	}
	must(t, c.Remove(t.Context(), nil))
	s.truth(t, "owner killed")
}

// shimOf is the process that supervises a container.
func (s *store) shimOf(t *testing.T, c *container.Container) int {
	t.Helper()
	run, err := s.record(t).LoadRun(c.ID())
	if err != nil || run == nil {
		t.Fatal(run, err)
	}
	return run.Shim
}

func (s *store) record(t *testing.T) *record.Root {
	t.Helper()
	root, err := record.OpenRoot(t.Context(), s.opts.Root, s.opts.State)
	must(t, err)
	return root
}

func (s *store) killShim(t *testing.T, c *container.Container) {
	t.Helper()
	pid := s.shimOf(t, c)
	st, err := proc.ReadStat(pid)
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	// Until it is dead it holds its lock, and is rightly taken for alive.
	until(t, "the supervisor is dead", func() bool { return !proc.Alive(pid, st.StartTime) })
}

// withHostPids lets the container share our pid namespace: the kernel does not
// end its processes with the first one.
func withHostPids(oci *specs.Spec) error {
	oci.Linux.Namespaces = slices.DeleteFunc(oci.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	return nil
}

func TestSupervisorKilled(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	for name, prepare := range map[string]func(*container.Container) error{
		"running": func(*container.Container) error { return nil },
		"paused":  func(c *container.Container) error { return c.Pause(t.Context()) },
		"hostpid": func(*container.Container) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			spec := sleeper(name)
			opts := &container.CreateOptions{}
			if name == "hostpid" {
				spec.Command = []string{"sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & wait"}
				opts.Customize = withHostPids
			}
			c := create(t, eng, spec, opts)
			must(t, c.Start(t.Context()))
			must(t, prepare(c))
			waited := make(chan *container.Exit, 1)
			go func() {
				exit, err := c.Wait(t.Context(), container.NotRunning)
				if err != nil {
					t.Error(err)
				}
				waited <- exit
			}()
			s.killShim(t, c)
			if exit := <-waited; exit == nil || exit.Code != 137 || !exit.Unknown || exit.Error == "" {
				t.Errorf("exit %+v", exit)
			}
			s.truth(t, "killed")
			if i := inspect(t, c); i.Status != container.Exited || i.WaitsForSupervisor {
				t.Errorf("%+v", i)
			}
			must(t, c.Start(t.Context()))
			must(t, c.Command(t.Context(), "true").Run())
			must(t, c.Remove(t.Context(), &container.RemoveOptions{Force: true}))
			s.truth(t, "removed")
		})
	}
}

func TestSupervisorKilledBeforeRestart(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	spec := sleeper("again")
	spec.Command = []string{"exit", "7"}
	spec.Restart.Policy = "always"
	c := started(t, eng, spec)
	until(t, "it waits for its next start", func() bool {
		i := inspect(t, c)
		return i.Status == container.Restarting && i.Restarts >= 3 // the pauses grow
	})
	s.killShim(t, c)
	s.truth(t, "killed between two runs")
	i := inspect(t, c)
	if i.Status != container.Exited || !i.WaitsForSupervisor || i.Exit.Code != 7 {
		t.Errorf("%+v, exit %+v", i, i.Exit)
	}
}

func TestFirstProcessKilledFromHost(t *testing.T) {
	s := newStore(t)
	c := started(t, s.open(t), sleeper("init"))
	must(t, syscall.Kill(inspect(t, c).Pid, syscall.SIGKILL))
	exit, err := c.Wait(t.Context(), container.NotRunning)
	must(t, err)
	if exit.Code != 137 || exit.Signal != 9 || exit.Unknown {
		t.Errorf("exit %+v", exit)
	}
	s.truth(t, "killed")
}

func TestExecKilledFromHost(t *testing.T) {
	s := newStore(t)
	c := started(t, s.open(t), sleeper("exec"))
	x := c.Command(t.Context(), "sleep", "1000")
	must(t, x.Start())
	must(t, syscall.Kill(x.Pid, syscall.SIGKILL))
	var exit *container.ExitError
	if err := x.Wait(); !errors.As(err, &exit) || exit.Code != 137 {
		t.Errorf("%v", err)
	}
	must(t, c.Command(t.Context(), "true").Run())
	x = c.Command(t.Context(), "sleep", "1000")
	must(t, x.Start())
	s.killShim(t, c)
	if err := x.Wait(); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("exec of a killed supervisor: %v", err)
	}
	s.truth(t, "killed")
}

// TestRandomKills kills whatever there is at whatever time, and looks whether
// the store tells the truth.
func TestRandomKills(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var boxes []*container.Container
	var execs sync.WaitGroup
	for i, policy := range []string{"no", "always", "on-failure", "unless-stopped"} {
		spec := sleeper(fmt.Sprint("box", i))
		spec.Restart.Policy = policy
		boxes = append(boxes, create(t, eng, spec, nil))
	}
	steps := 40
	if testing.Short() {
		steps = 10
	}
	for n := range steps {
		c := boxes[r.IntN(len(boxes))]
		i := inspect(t, c)
		if i.Status == container.Created || i.Status == container.Exited {
			must(t, c.Start(t.Context()))
			i = inspect(t, c)
		}
		var x *container.Exec
		switch r.IntN(4) {
		case 0:
			x = c.Command(t.Context(), "sleep", "1000")
			if err := x.Start(); err != nil {
				x = nil
			}
		case 1:
			c.Pause(t.Context())
		case 2:
			c.Resume(t.Context())
		}
		victims := []int{i.Pid}
		if run, err := s.record(t).LoadRun(c.ID()); err == nil && run != nil {
			victims = append(victims, run.Shim)
		}
		if x != nil {
			victims = append(victims, x.Pid)
		}
		if victim := victims[r.IntN(len(victims))]; victim > 1 {
			syscall.Kill(victim, syscall.SIGKILL) // it may have gone since
		}
		if x != nil {
			execs.Go(func() { x.Wait() })
		}
		if n%4 == 3 {
			for _, c := range boxes { // a frozen process does not die of a signal alone
				if inspect(t, c).Status == container.Paused {
					c.Resume(t.Context())
				}
			}
			s.truth(t, "after some random kills")
		}
	}
	s.clear(t)
	execs.Wait()
	s.truth(t, "random kills")
}

// A program may be replaced while its containers run.
func TestExecutableReplaced(t *testing.T) {
	s := newStore(t)
	exe := filepath.Join(s.dir, "program")
	copyExecutable(t, exe)
	cmd := s.hold(t, "detached", exe)
	must(t, os.WriteFile(exe+".new", []byte("garbage"), 0o755))
	must(t, os.Rename(exe+".new", exe))
	c, err := s.open(t).Containers().Get(t.Context(), "held")
	must(t, err)
	must(t, c.Command(t.Context(), "true").Run())
	kill9(t, cmd)
	must(t, c.Command(t.Context(), "true").Run())
	must(t, stopBox(c, t.Context()))
}

func copyExecutable(t *testing.T, to string) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(exe)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}
