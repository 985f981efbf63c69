package image

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
)

// signer is a key of some kind.
type signer struct {
	crypto.Signer
	pem string
}

func newSigner(t testing.TB, kind string) signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{k, string(pemOf("PUBLIC KEY", der))}
}

func (s signer) sign(t testing.TB, data []byte) string {
	t.Helper()
	sum := sha256.Sum256(data)
	msg, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
	if _, ok := s.Signer.(ed25519.PrivateKey); ok {
		msg, opts = data, crypto.Hash(0)
	}
	sig, err := s.Sign(rand.Reader, msg, opts)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

func payloadFor(reference string, d digest.Digest) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, reference, d)
}

// cosigned stores a signature as cosign does: under the tag, or with a subject.
func (r *testRegistry) cosigned(repo string, of ocispec.Descriptor, payload []byte, sig string, referrer bool) {
	r.t.Helper()
	d := r.pushBlob(repo, payload)
	empty := r.pushBlob(repo, []byte("{}"))
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: empty, Size: 2},
		Layers: []ocispec.Descriptor{{MediaType: cosignPayload, Digest: d, Size: int64(len(payload)), Annotations: map[string]string{cosignAnnotation: sig}}}}
	m.SchemaVersion = 2
	tag := "sha256-" + of.Digest.Encoded() + ".sig"
	if referrer {
		m.ArtifactType, m.Config.MediaType, m.Subject, tag = cosignArtifact, cosignArtifact, &of, ""
	}
	r.pushManifest(repo, tag, m.MediaType, m)
}

func TestTrustSignatures(t *testing.T) {
	for _, kind := range []string{"ecdsa", "ed25519", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			r := newRegistry(t)
			key, other := newSigner(t, kind), newSigner(t, kind)
			layer := noise(t, kind, 50_000)
			make := func(repo string) (ocispec.Descriptor, string) {
				return r.push(repo, "v1", "", layer, tarOf(t, file{name: repo, body: repo})).manifest, r.host() + "/" + repo
			}
			rules := []TrustRule{{Require: TrustReject}, {Scope: r.host(), Require: TrustSignature, Keys: []string{other.pem, key.pem}}, {Scope: r.host() + "/open", Require: TrustAccept}}
			s := openTest(t, &Options{Trust: rules})
			try := func(repo, says string) {
				t.Helper()
				before := r.count("GET blobs sha256:")
				_, err := s.Pull(t.Context(), r.host()+"/"+repo+":v1", nil)
				if says == "" {
					if err != nil {
						t.Errorf("%s: %v", repo, err)
					}
					return
				}
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v, want one that says %q", repo, err, says)
				}
				// The payload of a signature at most.
				if n := r.count("GET blobs sha256:") - before; n > 1 {
					t.Errorf("%s: %d blobs were fetched of an image without trust", repo, n)
				}
			}
			make("none")
			try("none", "no signature")
			make("open/app")
			try("open/app", "")
			good, name := make("good")
			p := payloadFor(name, good.Digest)
			r.cosigned("good", good, p, key.sign(t, p), false)
			try("good", "")
			stranger, name := make("stranger")
			p = payloadFor(name, stranger.Digest)
			r.cosigned("stranger", stranger, p, newSigner(t, kind).sign(t, p), false)
			try("stranger", "by one of the rule's keys")
			moved, _ := make("moved")
			p = payloadFor(r.host()+"/good", moved.Digest)
			r.cosigned("moved", moved, p, key.sign(t, p), false)
			try("moved", "for repository")
			swapped, name := make("swapped")
			p = payloadFor(name, good.Digest)
			r.cosigned("swapped", swapped, p, key.sign(t, p), false)
			try("swapped", "is about")
			forged, name := make("forged")
			p = payloadFor(name, forged.Digest)
			r.cosigned("forged", forged, append(p, ' '), key.sign(t, p), false)
			try("forged", "by one of the rule's keys")
			// An index that is signed, and one whose image is.
			one := r.push("index", "", "", layer).manifest
			ix := r.pushIndex("index", "v1", one)
			p = payloadFor(r.host()+"/index", ix.Digest)
			r.cosigned("index", ix, p, key.sign(t, p), false)
			try("index", "")
			inner := r.push("inner", "", "", layer).manifest
			r.pushIndex("inner", "v1", inner)
			p = payloadFor("", inner.Digest)
			r.cosigned("inner", inner, p, key.sign(t, p), false)
			try("inner", "")
		})
	}
}

func TestTrustReferrers(t *testing.T) {
	reg := testenv.NewRegistry(t, nil)
	r := &testRegistry{Server: reg.Server, t: t, inner: reg.Config.Handler}
	key := newSigner(t, "ecdsa")
	rules := []TrustRule{{Require: TrustSignature, Keys: []string{key.pem}}}
	// Simple signing in a manifest that refers to the image.
	m := r.push("app", "v1", "", tarOf(t, file{name: "f", body: "1"})).manifest
	m.Platform = nil
	p := payloadFor(reg.Host+"/app", m.Digest)
	r.cosigned("app", m, p, key.sign(t, p), true)
	// The bundle of newer ones.
	bundle := func(repo, predicate string) {
		m := r.push(repo, "v1", "", tarOf(t, file{name: "f", body: repo})).manifest
		m.Platform = nil
		st := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, m.Digest.Encoded(), predicate)
		pae := fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(st), st)
		data, _ := json.Marshal(map[string]any{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
			"dsseEnvelope": map[string]any{"payloadType": inTotoPayload, "payload": st, "signatures": []any{map[string]string{"sig": key.sign(t, pae)}}}})
		d, empty := r.pushBlob(repo, data), r.pushBlob(repo, []byte("{}"))
		a := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.dev.sigstore.bundle.v0.3+json", Subject: &m,
			Config: ocispec.Descriptor{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Digest: empty, Size: 2},
			Layers: []ocispec.Descriptor{{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Digest: d, Size: int64(len(data))}}}
		a.SchemaVersion = 2
		r.pushManifest(repo, "", a.MediaType, a)
	}
	bundle("bundle", "https://sigstore.dev/cosign/sign/v1")
	bundle("sbom", "https://spdx.dev/Document")
	s := openTest(t, &Options{Trust: rules})
	pullOne(t, s, reg.Host+"/app:v1", nil)
	pullOne(t, s, reg.Host+"/bundle:v1", nil)
	// A signed statement of another kind is no recommendation.
	if _, err := s.Pull(t.Context(), reg.Host+"/sbom:v1", nil); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "spdx") {
		t.Errorf("a signed SBOM: %v", err)
	}
	// When it cannot be asked, nothing passes.
	reg.Inject(testenv.Answer(".sig", 0, 500))
	other := openTest(t, &Options{Trust: rules})
	if _, err := other.Pull(t.Context(), reg.Host+"/bundle:v1", nil); err == nil {
		t.Error("pulled though signatures could not be read")
	}
	if left := append(leftovers(t, other.Root()), listed(t, other, nil)); len(left) != 1 || left[0] != "" {
		t.Errorf("left behind: %v", left)
	}
}

func TestTrustRules(t *testing.T) {
	key := newSigner(t, "ed25519")
	rules := []TrustRule{{Scope: "", Require: TrustReject}, {Scope: "*.example.com", Require: TrustAccept}, {Scope: "a.example.com", Require: TrustReject},
		{Scope: "docker.io/library", Require: TrustAccept}, {Scope: "docker.io/library/evil", Require: TrustReject}}
	for name, want := range map[string]string{"quay.io/x": "", "b.example.com/x": "*.example.com", "a.example.com/x": "a.example.com", "alpine": "docker.io/library",
		"evil": "docker.io/library/evil", "evil/twin": "", "library/evil/twin": "docker.io/library/evil", "notexample.com/x": "", "evil2": "docker.io/library"} {
		ref, err := parseRef(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := ruleFor(rules, ref); got.Scope != want {
			t.Errorf("%s: %q, want %q", name, got.Scope, want)
		}
	}
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	der := []byte(nil)
	if weak != nil {
		der, _ = x509.MarshalPKIXPublicKey(&weak.PublicKey)
	}
	for _, bad := range []TrustRule{{Require: "maybe"}, {Require: TrustSignature}, {Require: TrustSignature, Keys: []string{"x"}},
		{Scope: "docker.io/x@y", Require: TrustAccept}, {Scope: "library", Require: TrustAccept}, {Require: TrustSignature, Keys: []string{string(pemOf("PUBLIC KEY", der))}}} {
		if err := bad.check(); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	// The rules of the Root and those of the program both count, and what a
	// newer version may have written there does not pass.
	r := newRegistry(t)
	r.push("app", "v1", "", tarOf(t, file{name: "f", body: "1"}))
	s := openTest(t, &Options{Trust: []TrustRule{{Require: TrustAccept}}})
	for _, rule := range []record.TrustRule{{Require: TrustReject}, {Require: TrustSignature, Keys: []string{key.pem}}, {Require: "tomorrow's"}} {
		configure(t, s, record.Images{Trust: []record.TrustRule{rule}})
		if _, err := s.Pull(t.Context(), r.host()+"/app:v1", nil); err == nil {
			t.Errorf("pulled in spite of %+v", rule)
		}
	}
	configure(t, s, record.Images{})
	pullOne(t, s, r.host()+"/app:v1", nil)
}
