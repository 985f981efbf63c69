package amphora_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/testenv"
)

// init registers what this package runs in processes of their own.
func init() {
	testenv.Child("scenario", scenarioChild)
	testenv.Child("crowd", crowdChild)
	testenv.Child("holder", holderChild)
}

const testImage = "box"

var (
	rootfsOnce sync.Once
	rootfsData []byte
)

// store is a Root of a test with the test image in it.
type store struct {
	dir  string
	opts amphora.Options
}

func newStore(t *testing.T) *store {
	t.Helper()
	testenv.Root(t)
	s := emptyStore(t)
	eng := s.open(t)
	rootfsOnce.Do(func() { rootfsData = testenv.RootfsTar(t) })
	if _, err := eng.Images().Import(t.Context(), bytes.NewReader(rootfsData), &image.ImportOptions{Ref: testImage, Changes: []string{"ENV PATH=/bin", `CMD ["sh"]`}}); err != nil {
		t.Fatal(err)
	}
	// The first container of a Root makes the default network. Tests that count
	// steps and events are about what comes after.
	if _, err := networks.Open(s.record(t)).EnsureDefault(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.clear(t) })
	return s
}

func emptyStore(t *testing.T) *store {
	t.Helper()
	dir := testenv.Dir(t)
	return &store{dir: dir, opts: amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")}}
}

// open opens the store as another program would.
func (s *store) open(t *testing.T) *amphora.Engine {
	t.Helper()
	eng, err := amphora.Open(t.Context(), &s.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

// clear removes every container.
func (s *store) clear(t *testing.T) {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	eng, err := amphora.Open(ctx, &s.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	infos, err := eng.Containers().List(ctx, nil)
	if err != nil {
		t.Error(err)
	}
	for _, i := range infos {
		c, err := eng.Containers().Get(ctx, i.ID)
		if err == nil {
			err = c.Remove(ctx, &container.RemoveOptions{Force: true, Volumes: true})
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// sleeper is a container that runs until it is told not to.
func sleeper(name string) *container.Spec {
	return &container.Spec{Name: name, Image: testImage, Process: container.Process{Command: []string{"sleep", "1000"}}}
}

func create(t *testing.T, eng *amphora.Engine, spec *container.Spec, opts *container.CreateOptions) *container.Container {
	t.Helper()
	c, err := eng.Containers().Create(t.Context(), spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func started(t *testing.T, eng *amphora.Engine, spec *container.Spec) *container.Container {
	t.Helper()
	c := create(t, eng, spec, nil)
	must(t, c.Start(t.Context()))
	return c
}

func inspect(t *testing.T, c *container.Container) *container.Info {
	t.Helper()
	i, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until f finds no fault, for what happens in other processes.
func eventually(t *testing.T, what string, f func() []string) {
	t.Helper()
	var faults []string
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if faults = f(); len(faults) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s:\n  %s", what, strings.Join(faults, "\n  "))
			return
		}
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	eventually(t, what, func() []string {
		if f() {
			return nil
		}
		return []string{"not so"}
	})
}

func list(items []string, format string, args ...any) []string {
	return append(items, fmt.Sprintf(format, args...))
}
