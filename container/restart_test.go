package container

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestRestartOnFailure(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Restart: Restart{Policy: "on-failure", MaxRetries: 2}}, "sh", "-c", "echo run; exit 3")
	exit := wait(t, c)
	info := inspect(t, c)
	if exit.Code != 3 || info.Status != Exited || info.Restarts != 2 || info.WaitsForSupervisor {
		t.Errorf("exit %+v, %+v", exit, info)
	}
	if got := logText(t, c); got != strings.Repeat("run\n", 3) {
		t.Errorf("log %q", got)
	}
	clean := b.start(t, Spec{Restart: Restart{Policy: "on-failure"}}, "echo", "run")
	if wait(t, clean); logText(t, clean) != "run\n" {
		t.Errorf("a clean end was restarted: %q", logText(t, clean))
	}
	// Started by hand, the count begins anew.
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wait(t, c); inspect(t, c).Restarts != 2 {
		t.Errorf("restarts %d", inspect(t, c).Restarts)
	}
}

func TestRestartAlways(t *testing.T) {
	b := newBench(t)
	for _, policy := range []string{"always", "unless-stopped"} {
		for _, end := range []string{"stop", "kill", "remove"} {
			t.Run(policy+"/"+end, func(t *testing.T) {
				t.Parallel()
				c := b.start(t, Spec{Restart: Restart{Policy: policy}}, "echo", "run")
				eventually(t, "it runs for the third time", func() bool { return strings.Count(logText(t, c), "run\n") >= 3 })
				var err error
				switch end {
				case "stop": // also between two runs
					err = c.Stop(t.Context(), nil)
				case "kill":
					err = c.Signal(t.Context(), "KILL")
				case "remove":
					if err = c.Remove(t.Context(), &RemoveOptions{Force: true}); err == nil {
						return
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				exit := wait(t, c)
				info := inspect(t, c)
				if info.Status != Exited || info.Restarts < 2 || exit.Error != "" || exit.Unknown {
					t.Errorf("%+v, exit %+v", info, exit)
				}
			})
		}
	}
}

// Followers of the log and waiters see through restarts.
func TestRestartIsFollowed(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{Restart: Restart{Policy: "on-failure", MaxRetries: 2}}, "sh", "-c", "echo -n part; exit 1")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for e, err := range c.Logs(t.Context(), &LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(e.Line))
	}
	if len(parts) != 3 || parts[0] != "part" || parts[2] != "part" {
		t.Errorf("followed %q", parts)
	}
}

// A restart whose command is gone ends with that.
func TestRestartFails(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Restart: Restart{Policy: "always"}}, "/bin/sh", "-c", "rm /bin/sh; exit 1")
	exit := wait(t, c)
	if exit.Code != 127 || !strings.Contains(exit.Error, "/bin/sh") {
		t.Errorf("exit %+v", exit)
	}
	if got := inspect(t, c).Status; got != Exited {
		t.Errorf("status %s", got)
	}
}

func TestParallel(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			out, err := b.command(t, Spec{Name: fmt.Sprintf("c-%d", i)}, "echo", fmt.Sprint(i)).Output()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(i) {
				t.Errorf("container %d: %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
	var cs [20]*Container
	for i := range cs {
		cs[i] = b.create(t, Spec{}, "pause")
	}
	for _, f := range []func(*Container) error{
		func(c *Container) error { return c.Start(t.Context()) },
		func(c *Container) error { return c.Command(t.Context(), "true").Run() },
		func(c *Container) error { return c.Remove(context.Background(), &RemoveOptions{Force: true}) },
	} {
		for _, c := range cs {
			wg.Go(func() {
				if err := f(c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}
