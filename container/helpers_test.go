package container

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

// patience bounds what a test waits for; it is no measure of anything.
const patience = 20 * time.Second

// newManager opens a store of its own for the test.
func newManager(t *testing.T) *Manager {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	m, err := openManager(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	use, err := networks.Open(m.root).Use(t.Context()) // as an engine does: the bridge stays
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); use.Release() })
	return m
}

// openManager opens the store below dir, as any program would.
func openManager(ctx context.Context, dir string) (*Manager, error) {
	root, err := record.OpenRoot(ctx, filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	images, err := image.Open(ctx, &image.Options{Root: root.Dir, State: root.State})
	if err != nil {
		return nil, err
	}
	return New(root, images, nil), nil
}

// bench is a manager with the test image, under the name "box".
type bench struct {
	*Manager
	dir string
}

func newBench(t *testing.T, changes ...string) *bench {
	t.Helper()
	m := newManager(t)
	_, err := m.images.Import(t.Context(), bytes.NewReader(testenv.RootfsTar(t)), &image.ImportOptions{Ref: "box", Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Manager: m, dir: filepath.Dir(m.root.Dir)}
}

// create makes a container that goes with the test. Spec needs no image.
func (b *bench) create(t *testing.T, spec Spec, arg ...string) *Container {
	t.Helper()
	c, err := b.try(t, spec, arg...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bench) try(t *testing.T, spec Spec, arg ...string) (*Container, error) {
	if spec.Image == "" && spec.Rootfs == "" {
		spec.Image = "box"
	}
	if len(arg) > 0 {
		spec.Command = arg
	}
	c, err := b.Create(t.Context(), &spec, nil)
	if err == nil {
		t.Cleanup(func() {
			if err := c.Remove(context.Background(), &RemoveOptions{Force: true, Volumes: true}); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
	}
	return c, err
}

// start creates and starts.
func (b *bench) start(t *testing.T, spec Spec, arg ...string) *Container {
	t.Helper()
	c := b.create(t, spec, arg...)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// command is a Cmd with a Spec.
func (b *bench) command(t *testing.T, spec Spec, arg ...string) *Cmd {
	c := b.Command(t.Context(), "box", arg...)
	img := c.Image
	if c.Spec = spec; c.Spec.Image == "" {
		c.Spec.Image = img
	}
	c.Spec.Command = arg
	return c
}

// output runs a container to its end, which must be clean.
func (b *bench) output(t *testing.T, spec Spec, arg ...string) string {
	t.Helper()
	out, err := b.command(t, spec, arg...).Output()
	if err != nil {
		var exit *ExitError
		if errors.As(err, &exit) {
			t.Logf("stderr: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// execOutput runs a further process to its end, which must be clean.
func execOutput(t *testing.T, c *Container, arg ...string) string {
	t.Helper()
	out, err := c.Command(t.Context(), arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func inspect(t *testing.T, c *Container) *Info {
	t.Helper()
	info, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// wait returns how the container ended.
func wait(t *testing.T, c *Container) *Exit {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	exit, err := c.Wait(ctx, NotRunning)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

// eventually waits for what nothing reports.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// collector is a writer that can be waited for. It is safe for concurrent use.
type collector struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (c *collector) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(p)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}

// await waits until the text was written.
func (c *collector) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(c.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %q, have %q", text, c.String())
		}
	}
}

// is fails unless err is target.
func is(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want one that is %v", err, target)
	}
}

// says fails unless err's text has all parts.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("error %v does not say %q", err, p)
		}
	}
}

// readLines splits output into its lines.
func readLines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }

// hostFile reads a file of the host.
func hostFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// logText is the container's whole log.
func logText(t *testing.T, c *Container) string {
	t.Helper()
	var b strings.Builder
	for e, err := range c.Logs(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		b.Write(e.Line)
	}
	return b.String()
}

// checkInitFDs looks at what process 1 holds: the container's root may look
// into it, so nothing of the host may be there.
func checkInitFDs(t *testing.T, pid int) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink(dir + "/" + e.Name())
		if n, _ := strconv.Atoi(e.Name()); n > 2 && !strings.HasPrefix(to, "anon_inode:[event") {
			t.Errorf("process 1 has descriptor %s: %s", e.Name(), to)
		}
	}
}

func ptr[T any](v T) *T { return &v }
