package container

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/volume"
)

// busy changes its root in every way.
const busy = "write /tmp/new new; mkdir /d; write /d/e e; rm /etc/group; write /etc/passwd root:x:0:0::/:; rm -rf /data; write /v/x x; ln -s /tmp /l"

func changesOf(t *testing.T, c *Container) string {
	t.Helper()
	list, err := c.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, ch := range list {
		out = append(out, string(ch.Kind)+" "+ch.Path)
	}
	return strings.Join(out, ", ")
}

func TestChanges(t *testing.T) {
	for _, driver := range []string{"overlay", "copy"} {
		t.Run(driver, func(t *testing.T) {
			b := newBench(t)
			b.noOverlay = func() bool { return driver == "copy" }
			c := b.create(t, Spec{Mounts: []volume.Mount{{Type: volume.Named, Target: "/v"}}}, "sh", "-c", busy+"; pause")
			if got := changesOf(t, c); got != "" {
				t.Errorf("before the start: %s", got)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the link", func() bool { _, err := c.Stat(t.Context(), "/l"); return err == nil })
			const want = "A /d, A /d/e, D /data, C /etc, D /etc/group, C /etc/passwd, A /l, C /tmp, A /tmp/new, A /v"
			if got := changesOf(t, c); got != want {
				t.Errorf("running: %s\nwant %s", got, want)
			}
			c.Signal(t.Context(), "SIGKILL")
			wait(t, c)
			if got := changesOf(t, c); got != want {
				t.Errorf("stopped: %s\nwant %s", got, want)
			}
		})
	}
	b := newBench(t)
	dir := t.TempDir()
	c := b.create(t, Spec{Rootfs: dir}, "true")
	_, err := c.Changes(t.Context())
	is(t, err, errors.ErrUnsupported)
}

func TestExportAndMount(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Mounts: []volume.Mount{{Type: volume.Named, Target: "/v"}}}, "sh", "-c", busy+"; pause")
	eventually(t, "the link", func() bool { _, err := c.Stat(t.Context(), "/l"); return err == nil })
	_, err := c.Mount(t.Context())
	is(t, err, ErrRunning)
	check := func(when string) {
		r, err := c.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		seen := map[string]bool{}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			seen[h.Name] = true
		}
		if !seen["d/e"] || !seen["l"] || !seen["v/"] || seen["v/x"] || seen["etc/group"] || seen["proc/1/"] || !seen["etc/passwd"] {
			t.Errorf("%s: exported %v", when, seen)
		}
	}
	check("running")
	c.Signal(t.Context(), "SIGKILL")
	wait(t, c)
	check("stopped")

	m, err := c.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fs.ReadFile(m.FS(), "d/e"); err != nil || string(got) != "e\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(m.Dir()+"/tmp/host", []byte("h"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := changesOf(t, c); !strings.Contains(got, "A /tmp/host") {
		t.Errorf("changes %s", got)
	}
}

func TestCommit(t *testing.T) {
	for _, driver := range []string{"overlay", "copy"} {
		t.Run(driver, func(t *testing.T) {
			b := newBench(t, "CMD [\"true\"]", "ENV A=1")
			b.noOverlay = func() bool { return driver == "copy" }
			mark, err := b.root.Log.Last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c := b.start(t, Spec{Process: Process{Env: []string{"B=2"}}, Labels: map[string]string{"k": "v"}}, "sh", "-c", busy+"; pause")
			eventually(t, "the link", func() bool { _, err := c.Stat(t.Context(), "/l"); return err == nil })
			o := &CommitOptions{Ref: "made", Author: "me", Message: "why", Created: time.Unix(1e9, 0), Changes: []string{`CMD ["cat","/d/e"]`}}
			img, err := c.Commit(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Commit(t.Context(), o)
			if err != nil || again.ID() != img.ID() {
				t.Errorf("%v: a second commit made %v, the first %s", err, again, img.ID())
			}
			cfg := img.Config()
			if cfg.Author != "me" || cfg.Comment != "why" || !slices.Contains(cfg.Config.Env, "A=1") || !slices.Contains(cfg.Config.Env, "B=2") || cfg.Config.Labels["k"] != "v" {
				t.Errorf("%+v", cfg)
			}
			if h := img.History()[0]; h.Comment != "why" || h.Author != "me" || !strings.Contains(h.CreatedBy, "mkdir") {
				t.Errorf("%+v", h)
			}
			if out := b.output(t, Spec{Image: "made"}); out != "e" {
				t.Errorf("%q", out)
			}
			if out := b.output(t, Spec{Image: "made"}, "sh", "-c", "ls /etc; cat /etc/passwd"); strings.Contains(out, "group") || !strings.Contains(out, "root:x:0:0::/:") {
				t.Errorf("%q", out)
			}
			if i := inspect(t, c); i.Status != Running {
				t.Errorf("the container is %s", i.Status)
			}
			if out := execOutput(t, c, "echo", "still"); out != "still" { // not frozen
				t.Errorf("%q", out)
			}
			var actions []string
			for ev, err := range b.root.Log.Read(t.Context(), &journal.ReadOptions{Since: mark}) {
				if err != nil {
					t.Fatal(err)
				}
				if ev.Action == "commit" {
					actions = append(actions, ev.Type)
				}
			}
			if !slices.Contains(actions, "image") || !slices.Contains(actions, "container") {
				t.Errorf("events %v", actions)
			}
			_, err = c.Commit(t.Context(), &CommitOptions{Changes: []string{"FROM x"}})
			is(t, err, fs.ErrInvalid)
		})
	}
}

// What was never started, or has no image, can be committed too.
func TestCommitEdges(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "echo", "fresh")
	img, err := c.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if out := b.output(t, Spec{Image: img.ID()}); out != "fresh" {
		t.Errorf("%q", out)
	}
	if _, err := b.images.Remove(t.Context(), "box", &image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(t.Context(), &CommitOptions{Ref: "orphan"}); err != nil {
		t.Errorf("of a container whose image lost its name: %v", err)
	}
}

// freezerOf reads the state in the files of cgroup v1 or v2.
func freezerOf(t *testing.T, c *Container) string {
	t.Helper()
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		t.Fatal(err)
	}
	v, err := cgroup.Read(rec.Cgroup, "freezer.state")
	if err != nil {
		v, err = cgroup.Read(rec.Cgroup, "cgroup.freeze")
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A paused container stays paused, and one that is killed while its files are
// copied dies.
func TestCommitHolds(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if i := inspect(t, c); i.Status != Paused {
		t.Errorf("the container is %s", i.Status)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := c.freeze(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	// Nobody thaws it meanwhile, but to end it.
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := freezerOf(t, c); got != "FROZEN" && got != "1" {
		t.Errorf("the held container is %s after a resume", got)
	}
	if err := c.Signal(t.Context(), "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, c); exit.Signal != 9 {
		t.Errorf("%+v", exit)
	}
}
