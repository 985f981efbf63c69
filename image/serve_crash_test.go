package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// serve is a client that pushes an image of one layer in two chunks.
func (p *crashPlan) serve(s *Store) error {
	h := Serve(s, nil)
	ask := func(method, path string, body []byte, status int) (http.Header, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
		if w.Code != status {
			return nil, fmt.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		return w.Header(), nil
	}
	plain, err := os.ReadFile(p.File)
	if err != nil {
		return err
	}
	layer := gzipped(plain)
	config, err := json.Marshal(ocispec.Image{Platform: hostPlatform(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	if err != nil {
		return err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(layer), Size: int64(len(layer))}}}
	m.SchemaVersion = 2
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	header, err := ask("POST", "/v2/served/app/blobs/uploads/", nil, 202)
	if err != nil {
		return err
	}
	place, half := header.Get("Location"), len(layer)/2
	for _, r := range []struct {
		method, path string
		body         []byte
		status       int
	}{
		{"PATCH", place, layer[:half], 202},
		{"PUT", place + "?digest=" + string(m.Layers[0].Digest), layer[half:], 201},
		{"POST", "/v2/served/app/blobs/uploads/?digest=" + string(m.Config.Digest), config, 201},
		{"PUT", "/v2/served/app/manifests/v1", manifest, 201},
	} {
		if _, err := ask(r.method, r.path, r.body, r.status); err != nil {
			return err
		}
	}
	return nil
}

// A registry is killed at every step of a push: what has a name is whole, what
// has none is collected, and the push succeeds when it is done again.
func TestServeKilledAtEveryStep(t *testing.T) {
	needRoot(t)
	p := crashPlan{Op: "serve", File: filepath.Join(t.TempDir(), "layer.tar")}
	if err := os.WriteFile(p.File, noise(t, "layer", 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	points := p.points(t)
	for _, want := range []string{"upload.locked", "upload.made", "upload.bytes", "upload.closed", "upload.published", "upload.ended",
		"hold.written", "registry.stored", "registry.kept", "registry.named"} {
		if points[want] == 0 {
			t.Errorf("the push does not pass %s", want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(points)) {
		for _, at := range slices.Compact([]int{0, points[name] - 1}) {
			// Half of them are collected before the client comes again.
			t.Run(fmt.Sprintf("%s,%d", name, at), func(t *testing.T) { p.killServe(t, step.Plan{Name: name, At: at}, (len(name)+at)%2 == 0) })
		}
	}
}

func (p crashPlan) killServe(t *testing.T, plan step.Plan, collect bool) {
	s := p.prepare(t)
	before := contents(t, s.Root())
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
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	v := visit(t, s, nil)
	checkServed(t, s, v)
	clean := func() {
		t.Helper()
		if _, err := s.s.Collect(t.Context(), &store.CollectOptions{IdleAge: -1}); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"uploads", "holds"} {
			if entries, err := os.ReadDir(filepath.Join(s.Root(), dir)); err != nil || len(entries) > 0 {
				t.Errorf("not collected: %s: %v, %v", dir, entries, err)
			}
		}
		if left := leftovers(t, s.Root()); left != nil {
			t.Errorf("not collected: %v", left)
		}
	}
	if collect {
		clean()
		if names, err := s.s.Names(t.Context()); err != nil {
			t.Fatal(err)
		} else if now := contents(t, s.Root()); len(names) == 2 && !slices.Equal(now, before) {
			t.Errorf("nothing has a name, and there is %v besides %v", now, before)
		}
		checkServed(t, s, v)
	}
	if err := p.serve(s); err != nil {
		t.Fatalf("once more: %v", err)
	}
	v.want(v.do("GET", "/v2/served/app/manifests/v1", nil), 200, "")
	clean()
	checkServed(t, s, v)
	d := v.do("HEAD", "/v2/served/app/manifests/v1", nil).Header().Get("Docker-Content-Digest")
	v.want(v.do("DELETE", "/v2/served/app/manifests/"+d, nil), 202, "")
	clean()
	if now := contents(t, s.Root()); !slices.Equal(now, before) {
		t.Errorf("deleted, and there is still %v besides %v", now, before)
	}
}

// checkServed sees that what has a name is whole.
func checkServed(t *testing.T, s *Store, v *visitor) {
	t.Helper()
	checkStore(t, s)
	names, err := s.s.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.Contains(n.Name, "served/app") {
			continue
		}
		var m ocispec.Manifest
		w := v.want(v.do("GET", "/v2/served/app/manifests/"+string(n.Target), nil), 200, "")
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		for _, b := range append(m.Layers, m.Config) {
			if w := v.do("GET", "/v2/served/app/blobs/"+string(b.Digest), nil); w.Code != 200 || digest.FromBytes(w.Body.Bytes()) != b.Digest {
				t.Errorf("%s lacks blob %s: %d", n.Name, b.Digest, w.Code)
			}
		}
	}
}
