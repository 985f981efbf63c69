package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

// crashEnv makes this test binary a child that runs one operation and dies at
// a named point of it.
const crashEnv = "AMPHORA_IMAGE_CRASH"

type crashPlan struct {
	Plan        step.Plan
	Op          string
	Root, State string
	Registry    string
	Target      string // registry that is pushed to
	File        string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(crashEnv); text != "" {
		os.Exit(crashChild(text))
	}
	os.Exit(m.Run())
}

func crashChild(text string) int {
	var p crashPlan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := Open(context.Background(), &Options{Root: p.Root, State: p.State, Keychain: noKeys{}})
	if err == nil {
		if p.Plan.Name != "" {
			step.Arm(p.Plan)
		}
		err = p.run(s)
	}
	s.s.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run is the operation, as the child does it and as it is done again later.
func (p *crashPlan) run(s *Store) error {
	ctx := context.Background()
	data := func() *bytes.Reader {
		b, err := os.ReadFile(p.File)
		if err != nil {
			panic(err)
		}
		return bytes.NewReader(b)
	}
	var err error
	switch p.Op {
	case "import":
		_, err = s.Import(ctx, data(), &ImportOptions{Ref: "new", Created: time.Unix(1e9, 0)})
	case "load":
		_, err = s.Load(ctx, data(), nil)
	case "pull":
		_, err = s.Pull(ctx, p.Registry+"/app:v1", nil)
	case "move": // takes a name from an image that has no other
		err = s.Tag(ctx, "base:one", "base:two")
	case "remove":
		_, err = s.Remove(ctx, "base:one", nil)
	case "unpack":
		var img *Image
		if img, err = s.Get(ctx, "base:one"); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(p.Root, "layers", img.Layers()[0])); err != nil {
			return err
		}
		var l *Lease
		if l, err = img.Prepare(ctx); err == nil {
			err = l.Close()
		}
	case "collect":
		_, err = s.s.Collect(ctx, nil)
	case "prune":
		_, err = s.Prune(ctx, &PruneOptions{All: true, Only: ListOptions{References: []string{"base:one", "base:two"}}})
	case "pull-loop":
		for range 8 {
			img, err := s.Pull(ctx, p.Registry+"/app:v1", nil)
			if err != nil {
				return err
			}
			l, err := img.Prepare(ctx)
			if errors.Is(err, store.ErrMissing) {
				continue // removed since
			}
			if err != nil {
				return err
			}
			for _, chain := range img.Layers() {
				if entries, err := os.ReadDir(s.s.LayerDir(chain)); err != nil || len(entries) != 1 {
					return fmt.Errorf("a leased layer: %v, %w", entries, err)
				}
			}
			l.Close()
		}
	case "remove-loop":
		for range 30 {
			if _, err := s.Remove(ctx, p.Registry+"/app:v1", nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	case "prune-loop":
		for range 30 {
			if _, err := s.Prune(ctx, &PruneOptions{All: true}); err != nil {
				return err
			}
		}
	case "trim":
		_, err = s.Trim(ctx)
	case "repair":
		_, err = s.Repair(ctx, nil)
	case "push": // to a repository of this run alone
		name := p.Target + "/" + digest.FromString(p.Root).Encoded() + ":1"
		if err = s.Tag(ctx, "base:one", name); err == nil {
			_, err = s.Push(ctx, name, nil)
		}
	case "serve":
		err = p.serve(s)
	case "copy":
		_, err = s.Copy(ctx, p.Registry+"/app:v1", p.Target+"/"+digest.FromString(p.Root).Encoded()+":2", nil)
	}
	return err
}

// prepare makes the store that the operation begins with.
func (p *crashPlan) prepare(t *testing.T) *Store {
	t.Helper()
	p.Root, p.State = t.TempDir(), t.TempDir()
	s := openTest(t, &Options{Root: p.Root, State: p.State})
	importTest(t, s, "base:one", "1")
	importTest(t, s, "base:two", "2")
	if p.Op == "collect" {
		if _, err := s.Remove(t.Context(), "base:two", &RemoveOptions{KeepData: true}); err != nil {
			t.Fatal(err)
		}
	}
	if p.Op == "trim" || p.Op == "repair" {
		img := pullOne(t, s, p.Registry+"/app:v1", nil)
		s.s.Wait()
		if p.Op == "trim" { // drops blobs, and one of the two others must go
			configure(t, s, record.Images{MaxBytes: 400_000 + 6_000})
			return s
		}
		for _, path := range []string{filepath.Join("layers", img.Layers()[0], "diff/lower"), filepath.Join("blobs/sha256", img.Blobs()[1].Digest.Encoded())} {
			if err := os.WriteFile(filepath.Join(p.Root, path), []byte("damaged"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.s.Wait()
	return s
}

func TestKilledAtEveryStep(t *testing.T) {
	needRoot(t)
	r, to := newRegistry(t), testenv.NewRegistry(t, nil)
	lower, upper := noise(t, "lower", 400_000), tarOf(t, file{name: "d/", typ: '5'}, file{name: "d/f", body: "x"})
	r.push("app", "v1", "", lower, upper)
	archives := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(archives, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rootfs, saved := write("rootfs.tar", lower), write("saved.tar", dockerArchive(t, []string{"saved:1", "saved:2"}, lower, upper))
	for _, op := range []string{"import", "load", "pull", "move", "remove", "unpack", "collect", "push", "copy", "prune", "trim", "repair"} {
		t.Run(op, func(t *testing.T) {
			p := crashPlan{Op: op, Registry: r.host(), Target: to.Host, File: rootfs}
			if op == "load" {
				p.File = saved
			}
			points := p.points(t)
			if len(points) < 3 {
				t.Fatalf("only %v are named", points)
			}
			for name, passes := range points {
				for _, at := range slices.Compact([]int{0, passes - 1}) {
					t.Run(fmt.Sprintf("%s,%d", name, at), func(t *testing.T) { p.kill(t, step.Plan{Name: name, At: at}) })
				}
			}
		})
	}
}

// points runs the operation once and counts the points it passes.
func (p crashPlan) points(t *testing.T) map[string]int {
	t.Helper()
	s := p.prepare(t)
	points := map[string]int{}
	lock := make(chan struct{}, 1)
	step.Observe(func(name string) {
		lock <- struct{}{}
		points[name]++
		<-lock
	})
	err := p.run(s)
	step.Disarm()
	if err != nil {
		t.Fatal(err)
	}
	s.s.Wait()
	return points
}

func (p crashPlan) kill(t *testing.T, plan step.Plan) {
	s := p.prepare(t)
	p.Plan = plan
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		// Points passed by several goroutines may come fewer times in one run.
		if err == nil && plan.At > 0 {
			t.Skipf("the point was passed fewer than %d times in this run", plan.At+1)
		}
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	if p.Op != "repair" { // it began damaged
		checkStore(t, s)
	}
	checkNames(t, s, p.Op)
	if err := p.run(s); err != nil && p.Op != "remove" {
		t.Fatalf("once more: %v", err)
	}
	checkStore(t, s)
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("Verify: %+v, %v", v, err)
	}
	if _, err := s.s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, s.Root()); left != nil {
		t.Errorf("not collected: %v", left)
	}
	infos, err := s.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if _, err := s.Remove(t.Context(), i.ID, &RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if left := append(contents(t, s.Root()), leftovers(t, s.Root())...); left != nil {
		t.Errorf("without images there is still %v", left)
	}
}

// checkStore sees that every image is whole, can be unpacked, and agrees with
// the log.
func checkStore(t *testing.T, s *Store) {
	t.Helper()
	infos, err := s.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.Problem != "" {
			t.Errorf("image %s %v: %s", i.ID, i.Refs, i.Problem)
			continue
		}
		img, err := s.Get(t.Context(), i.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		for k, b := range img.Blobs() {
			if n, ok := s.s.HasBlob(b.Digest); (!ok || n != b.Size) && !s.s.Dropped(img.Layers()[k]) {
				t.Errorf("image %s %v lacks blob %s (%d of %d bytes)", i.ID, i.Refs, b.Digest, n, b.Size)
			}
		}
		l, err := img.Prepare(t.Context())
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	events := map[uint64]journal.Event{}
	for ev, err := range s.s.Journal().Read(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		events[ev.Seq] = ev
	}
	names, err := s.s.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if ev := events[n.Seq]; ev.ID != string(n.ImageID) || n.Name != "" && ev.Attributes["name"] != n.Name {
			t.Errorf("name %s carries event %d, which is %+v", n.Name, n.Seq, ev)
		}
	}
}

// checkNames sees that an operation happened or did not.
func checkNames(t *testing.T, s *Store, op string) {
	t.Helper()
	names, err := s.s.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*store.Name{}
	for _, n := range names {
		byName[familiar(n.Name)] = n
	}
	one, two := byName["base:one"], byName["base:two"]
	last := actions(t, s)
	switch op {
	case "move":
		moved := two != nil && one != nil && two.ImageID == one.ImageID
		if logged := slices.Contains(last, "tag base:two"); two == nil || moved != logged {
			t.Errorf("moved: %v, logged: %v", moved, logged)
		}
	case "remove":
		if logged := slices.Contains(last, "untag base:one"); logged == (one != nil) {
			t.Errorf("name there: %v, removal logged: %v", one != nil, logged)
		}
	case "pull", "load", "import":
		for _, a := range last {
			action, name, _ := strings.Cut(a, " ")
			if action == op && byName[name] == nil {
				t.Errorf("%s is logged, but the name is not there", a)
			}
		}
	}
}
