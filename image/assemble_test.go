package image

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

func TestAssembleRefuses(t *testing.T) {
	s := openTest(t, nil)
	l, err := s.s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gone := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("gone"), Size: 4}
	config := func(diffs ...digest.Digest) []byte {
		c := &Config{}
		c.Image.Platform = hostPlatform()
		c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: diffs}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, c := range map[string]struct {
		parts []Parts
		opts  *AssembleOptions
		kind  error
		says  string
	}{
		"nothing":      {kind: fs.ErrInvalid, says: "nothing"},
		"no JSON":      {parts: []Parts{{Config: []byte("{")}}, kind: fs.ErrInvalid, says: "no JSON"},
		"count":        {parts: []Parts{{Config: config(), Layers: []ocispec.Descriptor{gone}}}, kind: fs.ErrInvalid, says: "lists 0 layers"},
		"no layer":     {parts: []Parts{{Config: config(gone.Digest), Layers: []ocispec.Descriptor{gone}}}, kind: store.ErrMissing, says: "layer"},
		"bad diff":     {parts: []Parts{{Config: config("sha256:../../x"), Layers: []ocispec.Descriptor{gone}}}, kind: fs.ErrInvalid, says: "digest"},
		"name":         {parts: []Parts{{Config: config()}}, opts: &AssembleOptions{Names: []string{"good", "BAD NAME"}}, kind: fs.ErrInvalid, says: "BAD NAME"},
		"digest named": {parts: []Parts{{Config: config()}}, opts: &AssembleOptions{Names: []string{"x@" + string(gone.Digest)}}, kind: fs.ErrInvalid, says: "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Assemble(t.Context(), l, c.parts, c.opts)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	if names, err := s.s.Names(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("names %v, %v", names, err)
	}
	l.Close()
	if got, err := s.s.Collect(t.Context(), nil); err != nil || len(got.Layers) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAssembleHiddenAndNameless(t *testing.T) {
	s := openTest(t, nil)
	l, err := s.s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	parts := []Parts{{Config: []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`)}}
	hidden, err := s.Assemble(t.Context(), l, parts, &AssembleOptions{Action: "build", Names: []string{"x"}, Hidden: true})
	if err != nil || hidden.Image == nil {
		t.Fatal(err)
	}
	if all, err := s.List(t.Context(), nil); err != nil || len(all) > 0 {
		t.Errorf("listed: %v, %v", all, err)
	}
	a, err := s.Assemble(t.Context(), l, parts, &AssembleOptions{Action: "build"})
	if err != nil || a.Target.Digest != hidden.Target.Digest {
		t.Fatalf("%+v, %v", a, err)
	}
	index, err := s.Assemble(t.Context(), l, parts, &AssembleOptions{Action: "build", Names: []string{"x", "y:1"}, Index: true})
	if err != nil || index.Target.MediaType != ocispec.MediaTypeImageIndex || index.Image.Manifest() != string(a.Target.Digest) {
		t.Fatalf("%+v, %v", index, err)
	}
	all, err := s.List(t.Context(), nil)
	if err != nil || len(all) != 1 || len(all[0].Refs) != 2 {
		t.Errorf("listed: %+v, %v", all, err)
	}
	if got := actions(t, s); len(got) != 3 || !strings.HasPrefix(got[0], "build") {
		t.Errorf("events %q", got)
	}
}
