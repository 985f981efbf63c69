package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
)

func newRoot(t *testing.T) *Root {
	t.Helper()
	dir := t.TempDir()
	r, err := OpenRoot(t.Context(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newContainer(t *testing.T, r *Root, c *Container) *Container {
	t.Helper()
	l, err := r.Create(t.Context(), c, &Config{}, []byte("{}"))
	must(t, err)
	must(t, l.Release())
	return c
}

func TestCreateAndFind(t *testing.T) {
	r := newRoot(t)
	c := newContainer(t, r, &Container{Name: "found"})
	for _, ref := range []string{"found", c.ID, c.ID[:12], c.ID[:5]} {
		if id, err := r.Find(t.Context(), ref); id != c.ID || err != nil {
			t.Errorf("Find(%q) = %q, %v", ref, id, err)
		}
	}
	for _, ref := range []string{"foun", "x", "../containers", strings.Repeat("0", 64)} {
		if _, err := r.Find(t.Context(), ref); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Find(%q): %v", ref, err)
		}
	}
	if _, err := r.Find(t.Context(), ""); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("Find of nothing: %v", err)
	}
	newContainer(t, r, &Container{})
	if c2, err := r.Load(c.ID); err != nil || c2.Name != "found" || c2.Version != Version || c2.Seq == 0 {
		t.Errorf("%+v, %v", c2, err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"ab", "a.b-c_d", "0x", strings.Repeat("n", maxName)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a", ".ab", "-ab", "a/b", "a b", "ä1", strings.Repeat("n", maxName+1), "ab\n"} {
		if err := CheckName(name); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	r := newRoot(t)
	newContainer(t, r, &Container{Name: "taken"})
	_, err := r.Create(t.Context(), &Container{Name: "taken"}, &Config{}, nil)
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	if ids, err := r.IDs(); len(ids) != 1 || err != nil {
		t.Errorf("the failed creation left %v, %v", ids, err)
	}
}

// A name whose holder is gone goes to exactly one of those who want it.
func TestStaleNameIsTakenOnce(t *testing.T) {
	r := newRoot(t)
	for range 20 {
		must(t, os.MkdirAll(filepath.Join(r.Dir, "names"), 0o700))
		must(t, os.Symlink(NewID(), r.namePath("stale")))
		var wg sync.WaitGroup
		got := make([]*Container, 6)
		for i := range got {
			wg.Go(func() {
				c := &Container{Name: "stale"}
				l, err := r.Create(t.Context(), c, &Config{}, nil)
				if err == nil {
					got[i] = c
					l.Release()
				} else if !errors.Is(err, os.ErrExist) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		for _, c := range got {
			if c == nil {
				continue
			}
			n++
			_, err := r.Remove(t.Context(), c)
			must(t, err)
		}
		if n > 1 {
			t.Fatalf("%d got the name", n)
		}
		os.Remove(r.namePath("stale"))
	}
}

// cut leaves what a writer leaves that was killed after it had logged the
// change, and before it renamed the file.
func cut(t *testing.T, r *Root, c *Container, action string) {
	t.Helper()
	path := r.Path(c.ID, "record.json")
	before, _ := os.ReadFile(path)
	must(t, r.Save(t.Context(), c, action, nil))
	must(t, os.Rename(path, path+".next"))
	if before != nil {
		must(t, os.WriteFile(path, before, 0o600))
	}
}

func TestLoggedChangeIsSettledByReaders(t *testing.T) {
	r := newRoot(t)
	c := newContainer(t, r, &Container{Name: "before"})
	c.Name = "after"
	must(t, r.reserve(t.Context(), "after", c.ID))
	cut(t, r, c, "rename")
	if id, err := r.Find(t.Context(), "after"); id != c.ID || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	if l, err := r.Load(c.ID); err != nil || l.Name != "after" {
		t.Errorf("%+v, %v", l, err)
	}
	must(t, r.SweepNames(t.Context()))
	if _, err := os.Lstat(r.namePath("before")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
}

// A creation that was logged stands: its name is not given away.
func TestLoggedCreationKeepsItsName(t *testing.T) {
	r := newRoot(t)
	c := newContainer(t, r, &Container{Name: "mine"})
	path := r.Path(c.ID, "record.json")
	must(t, os.Rename(path, path+".next"))
	if _, err := r.Create(t.Context(), &Container{Name: "mine"}, &Config{}, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	if got, err := r.Load(c.ID); err != nil || got.Name != "mine" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Sweeping half-made directories away must not disturb who makes one.
func TestCreateWhileOthersSweep(t *testing.T) {
	r := newRoot(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			ids, _ := r.IDs()
			for _, id := range ids {
				if _, err := os.Stat(r.Path(id, "record.json")); errors.Is(err, os.ErrNotExist) {
					r.DropHalfMade(ctx, id)
				}
			}
		}
	})
	for i := range 200 {
		c := newContainer(t, r, &Container{Name: fmt.Sprintf("made%d", i), AutoRemove: true})
		if _, err := r.Load(c.ID); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
}

func TestUnknownFieldsStay(t *testing.T) {
	r := newRoot(t)
	c := newContainer(t, r, &Container{Name: "old"})
	path := r.Path(c.ID, "record.json")
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append([]byte(`{"later":{"x":[1,2]},`), b[1:]...), 0o600))
	if c, err = r.Load(c.ID); err != nil {
		t.Fatal(err)
	}
	must(t, r.Rename(t.Context(), c, "new"))
	c.Stopped = true
	must(t, r.SaveQuietly(c))
	var got map[string]json.RawMessage
	b, _ = os.ReadFile(path)
	must(t, json.Unmarshal(b, &got))
	if string(got["later"]) != `{"x":[1,2]}` || string(got["name"]) != `"new"` || string(got["stopped"]) != "true" {
		t.Errorf("%s", b)
	}
	c.Stopped = false
	must(t, r.SaveQuietly(c))
	if b, _ = os.ReadFile(path); strings.Contains(string(b), "stopped") {
		t.Errorf("a known field came back: %s", b)
	}
}

func TestDamagedAndNewerFiles(t *testing.T) {
	r := newRoot(t)
	c := newContainer(t, r, &Container{})
	path := r.Path(c.ID, "record.json")
	for text, unsupported := range map[string]bool{"": false, "{": false, `{"version":"x"}`: false, `{"version":2}`: true} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := r.Load(c.ID)
		if err == nil || errors.Is(err, errors.ErrUnsupported) != unsupported || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestJudge(t *testing.T) {
	r := newRoot(t)
	boot, err := proc.BootID()
	must(t, err)
	st, err := proc.ReadStat(os.Getpid())
	must(t, err)
	living := func(seq uint64, status Status) *Run {
		return &Run{Seq: seq, Status: status, Boot: boot, Shim: os.Getpid(), ShimStart: st.StartTime}
	}
	other := func(run *Run, change func(*Run)) *Run { change(run); return run }
	for name, test := range map[string]struct {
		run    *Run
		exit   *Exit
		held   bool
		auto   bool
		status Status
		lost   bool
		start  bool
	}{
		"created":               {status: Created},
		"start failed":          {exit: &Exit{Code: 127}, status: Created},
		"exited":                {exit: &Exit{Seq: 5}, status: Exited},
		"starting":              {run: living(0, Running), held: true, status: Created, start: true},
		"running":               {run: living(7, Running), held: true, status: Running},
		"running again":         {run: living(7, Running), exit: &Exit{Seq: 5}, held: true, status: Running},
		"paused":                {run: living(7, Paused), held: true, status: Paused},
		"restarting":            {run: living(0, Restarting), exit: &Exit{Seq: 5}, held: true, status: Restarting},
		"about to restart":      {run: living(7, Running), exit: &Exit{Seq: 9, Again: true}, held: true, status: Restarting},
		"ending":                {run: living(7, Running), exit: &Exit{Seq: 9}, held: true, status: Exited},
		"killed while ending":   {run: living(7, Running), exit: &Exit{Seq: 9}, status: Exited, lost: true},
		"killed":                {run: living(7, Running), status: Created, lost: true},
		"killed in start":       {run: living(0, Running), status: Created, lost: true},
		"killed in a pause":     {run: living(0, Restarting), exit: &Exit{Seq: 5}, status: Exited, lost: true},
		"another boot":          {run: other(living(7, Running), func(r *Run) { r.Boot = "x" }), held: true, status: Created, lost: true},
		"being recovered":       {run: other(living(7, Running), func(r *Run) { r.ShimStart++ }), held: true, status: Created, lost: true},
		"not removed":           {exit: &Exit{Seq: 5}, auto: true, status: Exited, lost: true},
		"not started, removed":  {exit: &Exit{Code: 127}, auto: true, status: Created, lost: true},
		"waits for its removal": {exit: &Exit{Seq: 5}, auto: true, held: true, status: Exited},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t, r, &Container{AutoRemove: test.auto})
			if test.run != nil {
				must(t, atomicfile.WriteJSON(r.Path(c.ID, "run.json"), test.run, 0o600, false))
			}
			if test.exit != nil {
				must(t, atomicfile.WriteJSON(r.Path(c.ID, "exit.json"), test.exit, 0o600, false))
			}
			if test.held {
				l, err := r.TryAlive(c.ID)
				must(t, err)
				defer l.Release()
			}
			s, err := r.Judge(c.ID)
			if err != nil || s.Lost != test.lost || s.Starting != test.start || s.Status != test.status {
				t.Errorf("status %s, lost %v, starting %v, %v", s.Status, s.Lost, s.Starting, err)
			}
		})
	}
}

func TestOpenAgain(t *testing.T) {
	r := newRoot(t)
	again, err := OpenRoot(t.Context(), r.Dir, r.State)
	if err != nil || again.ID != r.ID || len(r.ID) != 8 {
		t.Fatalf("%+v, %v", again, err)
	}
	c := newContainer(t, r, &Container{})
	moved := r.State + "2"
	l, err := flock.Try(r.alive(c.ID), flock.Exclusive)
	must(t, err)
	if _, err := OpenRoot(t.Context(), r.Dir, moved); err == nil || !strings.Contains(err.Error(), Short(c.ID)) || !strings.Contains(err.Error(), r.State) {
		t.Errorf("%v", err)
	}
	must(t, os.RemoveAll(r.State))
	if _, err := OpenRoot(t.Context(), r.Dir, r.State); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("%v", err)
	}
	must(t, l.Release())
	if again, err := OpenRoot(t.Context(), r.Dir, moved); err != nil || again.ID != r.ID {
		t.Errorf("%+v, %v", again, err)
	}
	var wg sync.WaitGroup
	dir := t.TempDir()
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			r, err := OpenRoot(t.Context(), filepath.Join(dir, "r"), filepath.Join(dir, "s"))
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = r.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one Root has the ids %v", ids)
		}
	}
}
