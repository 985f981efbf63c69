package container

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/volume"
)

// On a machine without overlay a container runs on a plain copy, which is its
// own, survives restarts, and goes with it.
func TestCopiedRoot(t *testing.T) {
	m := newBench(t)
	m.noOverlay = func() bool { return true }

	c, err := m.Create(t.Context(), &Spec{Image: "box", Process: Process{Command: []string{"sh", "-c", "cat /tmp/mark; write /tmp/mark seen"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := c.FS(t.Context()) // before the first start too
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(root, "etc/passwd"); err != nil {
		t.Error(err)
	}
	root.Close()
	for range 2 {
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context(), NotRunning); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	for e, err := range c.Logs(t.Context(), &LogOptions{Stdout: true}) {
		if err != nil {
			t.Fatal(err)
		}
		out.Write(e.Line)
	}
	if !strings.Contains(out.String(), "seen") {
		t.Errorf("the second run did not see what the first wrote: %q", out.String())
	}
	img, err := m.images.Get(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.root.Dir + "/layers/" + img.Layers()[0] + "/diff/tmp/mark"); err == nil {
		t.Error("the container wrote into the shared layer")
	}
	if err := c.Remove(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if exists(m.root.Path(c.id)) {
		t.Error("the copy is still there after the removal")
	}
}

// An image can be mounted into a container of another, read-only.
func TestImageMount(t *testing.T) {
	m := newBench(t)

	data := testenv.Tar(t, []testenv.File{{Name: "share/", Mode: 0o755}, {Name: "share/data", Data: []byte("from the image\n"), Mode: 0o644}})
	if _, err := m.images.Import(t.Context(), bytes.NewReader(data), &image.ImportOptions{Ref: "data:1"}); err != nil {
		t.Fatal(err)
	}
	cmd := m.Command(t.Context(), "box", "sh", "-c", "cat /mnt/share/data; touch /mnt/share/x || echo refused")
	cmd.Mounts = []volume.Mount{{Type: volume.Image, Source: "data:1", Target: "/mnt"}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.Contains(got, "from the image") || !strings.Contains(got, "refused") {
		t.Errorf("output %q", got)
	}
	// The layers stay while a container mounts them, also after rmi.
	c, err := m.Create(t.Context(), &Spec{Image: "box", Process: Process{Command: []string{"cat", "/mnt/share/data"}}, Mounts: cmd.Mounts}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.images.Remove(t.Context(), "data:1", &image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(t.Context(), NotRunning); err != nil || exit.Code != 0 {
		t.Errorf("after rmi of the mounted image: %+v, %v", exit, err)
	}
	cmd = m.Command(t.Context(), "box", "true")
	cmd.Mounts = []volume.Mount{{Type: volume.Image, Source: "nosuch:1", Target: "/mnt"}}
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "nosuch:1") {
		t.Errorf("mount of a missing image: %v", err)
	}
}
