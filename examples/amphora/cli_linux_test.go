package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/internal/testenv"
)

// TestCommandLine builds the program and runs it as a user would.
func TestCommandLine(t *testing.T) {
	testenv.Root(t)
	bin := filepath.Join(t.TempDir(), "amphora")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T, *cli){
		"RunCodes":                  testRunCodes,
		"RunFlagsReachTheContainer": testRunFlagsReachTheContainer,
		"Detached":                  testDetached,
		"SignalsReachTheContainer":  testSignalsReachTheContainer,
		"Exec":                      testExec,
		"KilledClient":              testKilledClient,
		"Names":                     testNames,
		"Images":                    testImages,
		"Pull":                      testPull,
		"House":                     testHouse,
		"Volumes":                   testVolumes,
		"Networks":                  testNetworks,
		"Connections":               testConnections,
		"Ports":                     testPorts,
		"EventsAndCare":             testEventsAndCare,
		"Copy":                      testCopy,
		"Update":                    testUpdate,
		"Stats":                     testStats,
		"Commit":                    testCommit,
		"Build":                     testBuild,
		"BuildOutputs":              testBuildOutputs,
		"BuildInput":                testBuildInput,
		"Terminal":                  testTerminal,
		"InterruptOnTerminal":       testInterruptOnTerminal,
		"HangUp":                    testHangUp,
		"AttachWithoutTerminal":     testAttachWithoutTerminal,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newCLI(t, bin))
		})
	}
}

// cli runs the program on a Root of the test's own, with the image "box".
type cli struct {
	t    *testing.T
	bin  string
	dir  string
	args []string // before the command
}

func newCLI(t *testing.T, bin string) *cli {
	t.Helper()
	c := &cli{t: t, bin: bin, dir: testenv.Dir(t)}
	c.args = []string{"-root", filepath.Join(c.dir, "root"), "-state", filepath.Join(c.dir, "state")}
	t.Cleanup(func() {
		if ids := strings.Fields(c.run("ps", "-aq").stdout); len(ids) > 0 {
			c.run(append([]string{"rm", "-fv"}, ids...)...)
		}
		c.removeBridges()
	})
	r := c.runInput(testenv.RootfsTar(t), "import", "-c", "ENV PATH=/bin", "-", "box")
	r.want(t, 0, "sha256:")
	return c
}

// removeBridges takes away what the program keeps for the next invocation: an
// Engine does so when it is closed.
func (c *cli) removeBridges() {
	eng, err := amphora.Open(context.Background(), &amphora.Options{Root: c.args[1], State: c.args[3]})
	if err == nil {
		err = eng.Close()
	}
	if err != nil {
		c.t.Error(err)
	}
}

type result struct {
	args           []string
	code           int
	stdout, stderr string
}

func (c *cli) command(args ...string) *exec.Cmd {
	return exec.Command(c.bin, append(c.args[:len(c.args):len(c.args)], args...)...)
}

func (c *cli) run(args ...string) result { return c.runInput(nil, args...) }

func (c *cli) runInput(stdin []byte, args ...string) result {
	c.t.Helper()
	cmd := c.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return result{args, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command that must succeed and returns what it printed.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != 0 {
		c.t.Fatalf("%q: code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimRight(r.stdout, "\n")
}

// is checks that a command succeeds and prints exactly that.
func (c *cli) is(want string, args ...string) {
	c.t.Helper()
	if got := c.ok(args...); got != want {
		c.t.Errorf("%q: printed %q, want %q", args, got, want)
	}
}

// want checks the exit code, and that text is part of the output, or for a
// failure of the one line of complaint.
func (r result) want(t *testing.T, code int, text string) {
	t.Helper()
	out := r.stdout
	if code != 0 && text != "" {
		out = r.stderr
	}
	if r.code != code || !strings.Contains(out, text) {
		t.Errorf("%q: code %d, want %d with %q\nstdout: %s\nstderr: %s", r.args, r.code, code, text, r.stdout, r.stderr)
	}
}

// fails checks that a command ends with the code and complains in one line.
func (c *cli) fails(code int, text string, args ...string) {
	c.t.Helper()
	r := c.run(args...)
	r.want(c.t, code, text)
	if !strings.HasPrefix(r.stderr, "amphora: ") || strings.Count(r.stderr, "\n") != 1 {
		c.t.Errorf("%q: complains %q, want one line", args, r.stderr)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// screen collects output and waits for text in it.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("on the screen:\n%s", s)
		}
	}()
	eventually(t, text+" on the screen", func() bool { return strings.Contains(s.String(), text) })
}

// client is a command that goes on while the test looks at it.
type client struct {
	cmd *exec.Cmd
	screen
	in io.WriteCloser
}

func (c *cli) start(args ...string) *client {
	c.t.Helper()
	cl := &client{cmd: c.command(args...)}
	var err error
	if cl.in, err = cl.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	cl.cmd.Stdout, cl.cmd.Stderr = &cl.screen, &cl.screen
	cl.begin(c.t)
	return cl
}

func (cl *client) begin(t *testing.T) {
	t.Helper()
	if err := cl.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cl.cmd.ProcessState == nil {
			cl.cmd.Process.Kill()
			cl.cmd.Wait()
		}
	})
}

// code waits for the client's end.
func (cl *client) code() int {
	cl.cmd.Wait()
	return cl.cmd.ProcessState.ExitCode()
}
