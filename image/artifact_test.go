package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestArtifacts(t *testing.T) {
	// The first knows referrers, the second keeps them under a tag.
	api := testenv.NewRegistry(t, nil)
	tagged := testenv.NewRegistry(t, nil)
	tagged.Inject(testenv.Answer("/referrers/", 0, http.StatusNotFound))
	for name, reg := range map[string]*testenv.Registry{"api": api, "tag": tagged} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, nil)
			built := reg.Push(t, "app", "v1", testenv.Image{})
			dir := t.TempDir()
			var files []ArtifactFile
			for i, body := range []string{"one", strings.Repeat("x", 100_000), ""} {
				path := filepath.Join(dir, fmt.Sprint("f", i))
				if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
				files = append(files, ArtifactFile{Path: path, Name: fmt.Sprint("sub/f", i), MediaType: "text/plain", Annotations: map[string]string{"n": fmt.Sprint(i)}})
			}
			var phases []Phase
			done, err := s.PushArtifact(t.Context(), reg.Host+"/app:files", files, &ArtifactOptions{Type: "application/vnd.example.files.v1",
				Annotations: map[string]string{"made": "here"}, Progress: func(p Progress) { phases = append(phases, p.Phase) }})
			if err != nil || done.Ref.Tag != "files" || len(phases) == 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			for i := range 3 { // about the image
				if name == "tag" && i == 1 {
					continue
				}
				one, err := s.PushArtifact(t.Context(), reg.Host+"/app", files[i:i+1], &ArtifactOptions{Type: fmt.Sprint("application/vnd.example.", i), Subject: "v1"})
				if err != nil || one.Ref.Tag != "" || one.Ref.Digest != one.Digest {
					t.Fatalf("%+v, %v", one, err)
				}
			}
			refs, err := s.Referrers(t.Context(), reg.Host+"/app:v1", nil)
			if want := 3; err != nil || name == "api" && len(refs) != want || name == "tag" && (len(refs) != 2 || refs[1].Type != "application/vnd.example.2") {
				t.Errorf("%+v, %v", refs, err)
			}
			if refs, err := s.Referrers(t.Context(), reg.Host+"/app@"+built.Manifest.String(), &ReferrersOptions{Type: "application/vnd.example.none"}); err != nil || len(refs) != 0 {
				t.Errorf("of another type: %+v, %v", refs, err)
			}
			to := filepath.Join(t.TempDir(), "new")
			a, err := s.PullArtifact(t.Context(), reg.Host+"/app:files", to, nil)
			if err != nil || a.Type != "application/vnd.example.files.v1" || a.Annotations["made"] != "here" || a.Digest != done.Digest || len(a.Files) != 3 {
				t.Fatalf("%+v, %v", a, err)
			}
			for i, f := range a.Files {
				want, _ := os.ReadFile(files[i].Path)
				got, err := os.ReadFile(f.Path)
				if err != nil || string(got) != string(want) || f.Annotations["n"] != fmt.Sprint(i) || f.MediaType != "text/plain" {
					t.Errorf("%+v: %v", f, err)
				}
			}
			if _, err := s.PullArtifact(t.Context(), reg.Host+"/app:files", to, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("over files that are there: %v", err)
			}
			if _, err := s.PullArtifact(t.Context(), reg.Host+"/app:files", to, &PullArtifactOptions{Overwrite: true}); err != nil {
				t.Error(err)
			}
			if left := append(contents(t, s.Root()), leftovers(t, s.Root())...); left != nil {
				t.Errorf("left in the store: %v", left)
			}
			if _, err := s.Pull(t.Context(), reg.Host+"/app:files", nil); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "artifact") {
				t.Errorf("pulled as an image: %v", err)
			}
		})
	}
}

func TestArtifactRefuses(t *testing.T) {
	reg := testenv.NewRegistry(t, nil)
	s := openTest(t, nil)
	file := filepath.Join(t.TempDir(), "f")
	os.WriteFile(file, []byte("x"), 0o600)
	kind := &ArtifactOptions{Type: "a/b"}
	for name, c := range map[string]struct {
		ref   string
		files []ArtifactFile
		opts  *ArtifactOptions
		want  error
	}{
		"no type":      {"/app:1", []ArtifactFile{{Path: file}}, nil, fs.ErrInvalid},
		"digest":       {"/app@" + someDigest, nil, kind, fs.ErrInvalid},
		"no file":      {"/app:1", []ArtifactFile{{Path: file + "x"}}, kind, fs.ErrNotExist},
		"a directory":  {"/app:1", []ArtifactFile{{Path: filepath.Dir(file)}}, kind, fs.ErrInvalid},
		"same name":    {"/app:1", []ArtifactFile{{Path: file}, {Path: file}}, kind, fs.ErrInvalid},
		"leads out":    {"/app:1", []ArtifactFile{{Path: file, Name: "../f"}}, kind, fs.ErrInvalid},
		"no subject":   {"/app:1", []ArtifactFile{{Path: file}}, &ArtifactOptions{Type: "a/b", Subject: "none"}, fs.ErrNotExist},
		"bad subject":  {"/app:1", []ArtifactFile{{Path: file}}, &ArtifactOptions{Type: "a/b", Subject: "a:b"}, fs.ErrInvalid},
		"bad registry": {"/UPPER:1", nil, kind, fs.ErrInvalid},
	} {
		if _, err := s.PushArtifact(t.Context(), reg.Host+c.ref, c.files, c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What a registry calls a file leads nowhere.
	r := &testRegistry{Server: reg.Server, t: t, inner: reg.Config.Handler}
	d := r.pushBlob("evil", []byte("x"))
	layer := func(title string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: "a/b", Digest: d, Size: 1, Annotations: map[string]string{ocispec.AnnotationTitle: title}}
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "a/b", Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: r.pushBlob("evil", []byte("{}")), Size: 2},
		Layers: []ocispec.Descriptor{layer("../../out")}}
	m.SchemaVersion = 2
	r.pushManifest("evil", "1", m.MediaType, m)
	dir := t.TempDir()
	a, err := s.PullArtifact(t.Context(), reg.Host+"/evil:1", dir, nil)
	if err != nil || a.Files[0].Name != d.Encoded() {
		t.Errorf("%+v, %v", a, err)
	}
	outside := t.TempDir()
	os.Symlink(outside, filepath.Join(dir, "link"))
	m.Layers = []ocispec.Descriptor{layer("link/f")}
	r.pushManifest("evil", "2", m.MediaType, m)
	if _, err := s.PullArtifact(t.Context(), reg.Host+"/evil:2", dir, nil); err == nil {
		t.Error("written through a link")
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("outside there is %v", entries)
	}
	// Trust counts for artifacts, too.
	strict := openTest(t, &Options{Trust: []TrustRule{{Require: TrustReject}}})
	if _, err := strict.PullArtifact(t.Context(), reg.Host+"/evil:1", dir, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("rejected: %v", err)
	}
}

func TestAttestations(t *testing.T) {
	reg := testenv.NewRegistry(t, nil)
	r := &testRegistry{Server: reg.Server, t: t, inner: reg.Config.Handler}
	img := r.push("app", "", "", tarOf(t, file{name: "f", body: "x"})).manifest
	statement := func(predicate string) []byte {
		return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":%q,"predicate":{"n":1}}`, predicate)
	}
	manifest := func(tag, kind string, subject *ocispec.Descriptor, blobs ...[]byte) ocispec.Descriptor {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind, Subject: subject,
			Config: ocispec.Descriptor{MediaType: kind, Digest: r.pushBlob("app", []byte("{}")), Size: 2}}
		m.SchemaVersion = 2
		for _, b := range blobs {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: kind, Digest: r.pushBlob("app", b), Size: int64(len(b))})
		}
		return r.pushManifest("app", tag, m.MediaType, m)
	}
	// BuildKit's, in the index.
	a := manifest("", inTotoPayload, nil, statement("https://slsa.dev/provenance/v1"), statement("https://spdx.dev/Document"))
	a.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": string(img.Digest)}
	other := a
	other.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": someDigest}
	ix := r.pushIndex("app", "v1", img, a, other)
	// A referrer, and cosign's tag with an envelope.
	plain := img
	plain.Platform = nil
	manifest("", inTotoPayload, &plain, statement("https://example.com/test"))
	dsse, _ := json.Marshal(map[string]any{"payloadType": inTotoPayload, "payload": statement("https://cyclonedx.org/bom"), "signatures": []any{map[string]string{"sig": "AAAA"}}})
	manifest("sha256-"+ix.Digest.Encoded()+".att", dsseEnvelope, nil, dsse)
	s := openTest(t, nil)
	got, err := s.Attestations(t.Context(), reg.Host+"/app:v1", nil)
	if err != nil || len(got) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	byType := map[string]Attestation{}
	for _, g := range got {
		byType[g.PredicateType] = g
	}
	if p := byType["https://slsa.dev/provenance/v1"]; p.Subject != string(img.Digest) || p.Signed || digest.FromBytes(p.Statement) != digest.Digest(p.Digest) {
		t.Errorf("provenance: %+v", p)
	}
	if p := byType["https://cyclonedx.org/bom"]; p.Subject != string(ix.Digest) || !p.Signed || !strings.Contains(string(p.Statement), "predicate") {
		t.Errorf("bom: %+v", p)
	}
	if got, err := s.Attestations(t.Context(), reg.Host+"/app:v1", &AttestationOptions{PredicateType: "https://slsa.dev/"}); err != nil || len(got) != 1 {
		t.Errorf("provenance alone: %+v, %v", got, err)
	}
	if left := append(contents(t, s.Root()), leftovers(t, s.Root())...); left != nil {
		t.Errorf("left in the store: %v", left)
	}
}
