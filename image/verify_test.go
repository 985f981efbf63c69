package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestVerifyAndRepair(t *testing.T) {
	needRoot(t)
	r := newRegistry(t)
	low, up := noise(t, "base", 100_000), tarOf(t, file{name: "d/", typ: '5'}, file{name: "d/f", body: "x"})
	pushed := r.push("app", "v1", "", low, up)
	r.pushIndex("app", "multi", pushed.manifest)
	blob := func(s *Store, d digest.Digest) string { return filepath.Join(s.Root(), "blobs/sha256", d.Encoded()) }
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > 0 {
			b[len(b)/2] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	}
	for name, c := range map[string]struct {
		damage func(s *Store, img *Image) error
		kind   string
	}{
		"blob changed":     {func(s *Store, img *Image) error { return flip(blob(s, pushed.layers[0].Digest)) }, ProblemBlob},
		"blob cut":         {func(s *Store, img *Image) error { return os.Truncate(blob(s, pushed.layers[0].Digest), 10) }, ProblemBlob},
		"blob gone":        {func(s *Store, img *Image) error { return os.Remove(blob(s, pushed.layers[1].Digest)) }, ProblemBlob},
		"config changed":   {func(s *Store, img *Image) error { return flip(blob(s, pushed.config)) }, ProblemBlob},
		"config gone":      {func(s *Store, img *Image) error { return os.Remove(blob(s, pushed.config)) }, ProblemBlob},
		"manifest changed": {func(s *Store, img *Image) error { return flip(blob(s, pushed.manifest.Digest)) }, ProblemBlob},
		"manifest gone":    {func(s *Store, img *Image) error { return os.Remove(blob(s, pushed.manifest.Digest)) }, ProblemBlob},
		"file changed":     {func(s *Store, img *Image) error { return flip(filepath.Join(s.s.LayerDir(img.Layers()[0]), "base")) }, ProblemLayer},
		"file gone": {func(s *Store, img *Image) error {
			return os.Remove(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d/f"))
		}, ProblemLayer},
		"file added": {func(s *Store, img *Image) error {
			return os.WriteFile(filepath.Join(s.s.LayerDir(img.Layers()[1]), "new"), nil, 0o600)
		}, ProblemLayer},
		"mode changed": {func(s *Store, img *Image) error {
			return os.Chmod(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d"), 0o700)
		}, ProblemLayer},
		"owner changed": {func(s *Store, img *Image) error {
			return os.Chown(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d/f"), 12, 12)
		}, ProblemLayer},
		"time changed": {func(s *Store, img *Image) error {
			return os.Chtimes(filepath.Join(s.s.LayerDir(img.Layers()[1]), "d/f"), time.Now(), time.Now())
		}, ProblemLayer},
		"meta torn": {func(s *Store, img *Image) error {
			return os.WriteFile(filepath.Join(s.Root(), "layers", img.Layers()[1], "meta.json"), []byte("{"), 0o600)
		}, ProblemLayer},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, nil)
			img := pullOne(t, s, r.host()+"/app:multi", nil)
			pullOne(t, s, r.host()+"/app:v1", nil)
			s.s.Wait()
			if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems)+len(v.Extra) > 0 || v.Layers != 2 || v.Blobs != 5 {
				t.Fatalf("undamaged: %+v, %v", v, err)
			}
			if err := c.damage(s, img); err != nil {
				t.Fatal(err)
			}
			v, err := s.Verify(t.Context(), nil)
			if err != nil || len(v.Problems) == 0 || v.Problems[0].Kind != c.kind || len(v.Problems[0].Images) == 0 {
				t.Fatalf("%+v, %v", v, err)
			}
			done, err := s.Repair(t.Context(), nil)
			if err != nil || len(done) == 0 {
				t.Fatalf("repair: %+v, %v", done, err)
			}
			for _, d := range done {
				if d.Err != nil || d.Done == "" {
					t.Errorf("%s %s: %q, %v", d.Kind, d.ID, d.Done, d.Err)
				}
			}
			if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
				t.Errorf("afterwards: %+v, %v", v, err)
			}
			if left := leftovers(t, s.Root()); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRepairDropsWhatIsLost(t *testing.T) {
	s := openTest(t, nil)
	good, lost, used := importTest(t, s, "good", "1"), importTest(t, s, "lost", "2"), importTest(t, s, "used", "3")
	dir := container(t, s, "c", used)
	for _, img := range []*Image{lost, used} {
		os.Remove(filepath.Join(s.Root(), "blobs/sha256", strings.TrimPrefix(img.ID(), "sha256:")))
	}
	os.WriteFile(filepath.Join(s.Root(), "images", "torn.json"), []byte("{"), 0o600)
	v, err := s.Verify(t.Context(), nil)
	if err != nil || len(v.Problems) != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	done, err := s.Repair(t.Context(), nil)
	if err != nil || len(done) != 3 || done[0].Err == nil || done[0].Done != "" {
		t.Fatalf("what cannot be mended: %+v, %v", done, err)
	}
	done, err = s.Repair(t.Context(), &RepairOptions{Drop: true})
	if err != nil {
		t.Fatal(err)
	}
	dropped := 0
	for _, d := range done {
		switch {
		case d.Done == "dropped":
			dropped++
		case !errors.Is(d.Err, ErrInUse) || d.ID != used.ID():
			t.Errorf("%+v", d)
		}
	}
	if dropped != 2 {
		t.Errorf("%d dropped: %+v", dropped, done)
	}
	if _, err := s.Get(t.Context(), "good"); err != nil || good == nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "lost"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	os.RemoveAll(dir)
}

func TestRepairLeavesRunningContainersAlone(t *testing.T) {
	needRoot(t)
	s := openTest(t, nil)
	img := importTest(t, s, "app", "1")
	s.s.Wait()
	dir := container(t, s, "c", img)
	alive, err := flock.Try(filepath.Join(dir, "alive"), flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.s.LayerDir(img.Layers()[0]), "file")
	if err := os.WriteFile(path, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := s.Repair(t.Context(), nil)
	if err != nil || len(done) != 1 || done[0].Err == nil || !strings.Contains(done[0].Err.Error(), "cccccccccccc") {
		t.Fatalf("while it runs: %+v, %v", done, err)
	}
	if b, _ := os.ReadFile(path); string(b) != "2" {
		t.Error("the layer of a running container was replaced")
	}
	alive.Release()
	if done, err = s.Repair(t.Context(), nil); err != nil || done[0].Err != nil {
		t.Errorf("afterwards: %+v, %v", done, err)
	}
}

// Whiteouts, opaque directories, links into lower layers, implied directories:
// what an unpacked layer has beyond its archive is no damage.
func TestVerifyOfWhatIsHardToUnpack(t *testing.T) {
	needRoot(t)
	reg := testenv.NewRegistry(t, nil)
	reg.Push(t, "app", "1", testenv.LayeredImage(t, "app:1"))
	s := openTest(t, nil)
	pullOne(t, s, reg.Host+"/app:1", nil)
	s.s.Wait()
	for _, drop := range []bool{false, true} {
		configure(t, s, record.Images{DropBlobs: drop})
		if _, err := s.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Problems)+len(v.Unproven) > 0 || v.Layers != 4 {
			t.Errorf("blobs dropped %v: %+v, %v", drop, v, err)
		}
	}
}
