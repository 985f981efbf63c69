package image

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The formats of cosign, as its specification (SIGNATURE_SPEC.md) and the
// bundle of sigstore have them.
const (
	cosignPayload    = "application/vnd.dev.cosign.simplesigning.v1+json"
	cosignArtifact   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	cosignAnnotation = "dev.cosignproject.cosign/signature"
	sigstoreBundle   = "application/vnd.dev.sigstore.bundle."
	inTotoPayload    = "application/vnd.in-toto+json"
)

// Bounds of what somebody who can write to a repository can make us read.
const (
	maxSignatures = 64
	maxPayload    = 1 << 20
)

// signature is a statement about a digest that a key may have signed.
type signature struct {
	about   string // the digest that it must be about
	payload []byte // what is signed
	says    []byte // what it says, when that is not the payload itself
	sig     []byte
	dsse    bool
}

// parseKey reads a public key and refuses weak ones.
func parseKey(text string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not a public key in PEM")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a public key: a PEM block %q: %w", block.Type, err)
	}
	switch k := k.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 {
			return nil, fmt.Errorf("an RSA key of %d bits is too weak: 2048 are the least", n)
		}
		return k, nil
	}
	return nil, fmt.Errorf("keys of type %T are not supported: use ECDSA, Ed25519 or RSA", k)
}

// verifies reports whether a key signed data: with SHA-256, but for Ed25519
// which signs the data itself.
func verifies(key crypto.PublicKey, data, sig []byte) bool {
	sum := sha256.Sum256(data)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(k, data, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil || rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, nil) == nil
	}
	return false
}

// signedBy looks for a signature by one of the keys.
func signedBy(all []signature, keys []crypto.PublicKey, ref Ref) error {
	if len(all) == 0 {
		return errors.New("there is no signature")
	}
	why := errors.New("no signature of it is by one of the rule's keys")
	for _, s := range all {
		for _, k := range keys {
			if !verifies(k, s.payload, s.sig) {
				continue
			}
			err := s.statement(ref)
			if err == nil {
				return nil
			}
			why = err
		}
	}
	return why
}

// statement sees that what was signed is about this image.
func (s *signature) statement(ref Ref) error {
	if s.dsse {
		return s.inToto()
	}
	var p struct {
		Critical struct {
			Type     string `json:"type"`
			Identity struct {
				Reference string `json:"docker-reference"`
			} `json:"identity"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(s.payload, &p); err != nil {
		return fmt.Errorf("what was signed is malformed: %w", err)
	}
	c := p.Critical
	switch {
	case c.Type != "cosign container image signature" && c.Type != "atomic container signature":
		return fmt.Errorf("what was signed is a %q, no signature of an image", c.Type)
	case c.Image.Digest != s.about:
		return fmt.Errorf("the signature is about %s", printable(c.Image.Digest))
	case c.Identity.Reference == "":
		return nil
	}
	named, err := parseRef(c.Identity.Reference)
	if err != nil {
		return fmt.Errorf("the signature names a repository that is malformed: %w", err)
	}
	if named.Registry == "index.docker.io" {
		named.Registry = defaultRegistry
	}
	if named.Name() != ref.Name() {
		return fmt.Errorf("the signature is for repository %s", named.Name())
	}
	return nil
}

// inToto reads a statement of in-toto, whose subjects are digests.
func (s *signature) inToto() error {
	var st struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(s.says, &st); err != nil {
		return fmt.Errorf("what was signed is malformed: %w", err)
	}
	// Provenance and SBOMs are statements, too, but recommend nothing.
	if st.PredicateType != "https://sigstore.dev/cosign/sign/v1" {
		return fmt.Errorf("what was signed is a statement of type %s, no signature of an image", printable(st.PredicateType))
	}
	for _, sub := range st.Subject {
		if "sha256:"+sub.Digest["sha256"] == s.about {
			return nil
		}
	}
	return errors.New("the signature is about other images")
}

// signatures collects what is signed about a digest, from wherever the
// repository keeps it. That there is nothing is no error; that it cannot be
// asked is.
func (p *puller) signatures(ctx context.Context, about string) ([]signature, error) {
	d := digest.Digest(about)
	var out []signature
	tagged, err := p.signatureManifest(ctx, referrersTag(d)+".sig", about)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out = append(out, tagged...)
	refs, err := p.referrers(ctx, d, "")
	if err != nil && len(out) > 0 { // a registry without referrers may say so in any way
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		if kind := bareType(r.ArtifactType); kind != cosignArtifact && !strings.HasPrefix(kind, sigstoreBundle) {
			continue
		}
		more, err := p.signatureManifest(ctx, string(r.Digest), about)
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) >= maxSignatures {
			break
		}
	}
	return out, nil
}

// signatureManifest reads one manifest of signatures. Nothing of it is kept.
func (p *puller) signatureManifest(ctx context.Context, what, about string) ([]signature, error) {
	var data []byte
	if err := p.ask(ctx, func(src *source) (err error) {
		data, err = src.manifest(ctx, what)
		return err
	}); err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("a manifest of signatures is malformed: %w", err)
	}
	var out []signature
	for i, l := range m.Layers {
		if i == maxSignatures {
			break
		}
		bundle := strings.HasPrefix(l.MediaType, sigstoreBundle)
		if l.MediaType != cosignPayload && !bundle {
			continue
		}
		var payload []byte
		if err := p.ask(ctx, func(src *source) (err error) {
			payload, err = src.smallBlob(ctx, l, maxPayload)
			return err
		}); err != nil {
			return nil, err
		}
		if bundle {
			out = append(out, bundled(payload, about)...)
		} else if sig, err := base64.StdEncoding.DecodeString(l.Annotations[cosignAnnotation]); err == nil {
			out = append(out, signature{about: about, payload: payload, sig: sig})
		}
	}
	return out, nil
}

// bundled takes the signatures out of a bundle; one that is malformed has none.
func bundled(data []byte, about string) []signature {
	var b struct {
		Envelope envelope `json:"dsseEnvelope"`
	}
	if json.Unmarshal(data, &b) != nil || b.Envelope.PayloadType != inTotoPayload {
		return nil
	}
	says, pae, err := b.Envelope.open()
	if err != nil {
		return nil
	}
	var out []signature
	for _, s := range b.Envelope.Signatures {
		if sig, err := base64.StdEncoding.DecodeString(s.Sig); err == nil && len(out) < maxSignatures {
			out = append(out, signature{about: about, payload: pae, says: says, sig: sig, dsse: true})
		}
	}
	return out
}

// envelope is one of DSSE, protocol.md.
type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     string `json:"payload"`
	Signatures  []struct {
		Sig string `json:"sig"`
	} `json:"signatures"`
}

// open returns the payload, and the encoding of it that is signed.
func (e *envelope) open() (payload, pae []byte, err error) {
	if payload, err = base64.StdEncoding.DecodeString(e.Payload); err != nil {
		return nil, nil, err
	}
	pae = fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(e.PayloadType), e.PayloadType, len(payload))
	return payload, append(pae, payload...), nil
}
