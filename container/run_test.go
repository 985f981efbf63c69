package container

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

// newManager opens a store of its own for the test.
func newManager(t *testing.T) *Manager {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	root, err := record.OpenRoot(t.Context(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(t.Context(), &image.Options{Root: root.Dir, State: root.State})
	if err != nil {
		t.Fatal(err)
	}
	m := New(root, images, nil)
	t.Cleanup(func() { m.Close() })
	return m
}

func TestRunFromRootfs(t *testing.T) {
	m := newManager(t)
	c := m.Command(t.Context(), "", "echo", "hello")
	c.Rootfs = testenv.Rootfs(t)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "hello" {
		t.Errorf("output %q", got)
	}
}
