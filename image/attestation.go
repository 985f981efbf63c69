package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Referrer is a manifest that says to be about another.
type Referrer struct {
	Digest      string
	MediaType   string
	Type        string // of the artifact
	Size        int64
	Annotations map[string]string
}

// ReferrersOptions tune Referrers.
type ReferrersOptions struct {
	Type string // of artifacts wanted; "" for all
}

// Referrers lists what a registry, and its mirrors, have that refers to an
// image or artifact: signatures, SBOMs, attestations. Nothing says that they
// tell the truth.
func (s *Store) Referrers(ctx context.Context, name string, opts *ReferrersOptions) ([]Referrer, error) {
	if opts == nil {
		opts = &ReferrersOptions{}
	}
	var out []Referrer
	err := s.ask(ctx, name, func(p *puller, ref Ref) error {
		d, _, err := p.top(ctx, ref)
		if err != nil {
			return err
		}
		list, err := p.referrers(ctx, d, opts.Type)
		for _, r := range list {
			out = append(out, Referrer{Digest: string(r.Digest), MediaType: r.MediaType, Type: r.ArtifactType, Size: r.Size, Annotations: r.Annotations})
		}
		return err
	})
	return out, fault.New("image referrers", name, err)
}

// ask runs f with the sources of a name and a lease, and drops what it fetched.
func (s *Store) ask(ctx context.Context, name string, f func(p *puller, ref Ref) error) error {
	ref, err := parseRef(name)
	if err != nil {
		return err
	}
	p := &puller{s: s, opts: &PullOptions{}, stall: stallTimeout}
	if p.sources, err = s.sources(ref, 0); err != nil {
		return err
	}
	defer p.close()
	if p.lease, err = s.s.Lease(ctx); err != nil {
		return err
	}
	err = f(p, ref)
	p.lease.Close()
	if _, cerr := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge}); cerr != nil {
		s.log.Warn("image: manifests that were read not collected yet", "image", name, "err", cerr)
	}
	return err
}

// Attestation is a statement about an image, such as its provenance or SBOM.
type Attestation struct {
	// PredicateType says what kind of statement it is, such as
	// "https://slsa.dev/provenance/v1" or "https://spdx.dev/Document".
	PredicateType string
	// Statement is the statement in the format of in-toto, JSON.
	Statement json.RawMessage
	Subject   string // digest of the manifest that it came with
	Digest    string // of the blob that it came in
	// Signed says that it came with signatures. They were not verified.
	Signed bool
}

// AttestationOptions tune Attestations.
type AttestationOptions struct {
	// Platform is the one whose image is meant; default the host's.
	Platform string
	// PredicateType, or a beginning of it, chooses.
	PredicateType string
}

const (
	dsseEnvelope = "application/vnd.dsse.envelope.v1+json"
	// maxStatement bounds one statement: SBOMs of large images have some MiB.
	maxStatement = 64 << 20
	// maxStatements bounds how many are read of one image.
	maxStatements = 256
)

// Attestations reads what a registry has about an image in the format of
// in-toto: manifests that BuildKit puts into an image's index, artifacts that
// refer to the image, and those that cosign keeps under a tag. They are what
// somebody who can write to the repository says.
func (s *Store) Attestations(ctx context.Context, name string, opts *AttestationOptions) ([]Attestation, error) {
	if opts == nil {
		opts = &AttestationOptions{}
	}
	var out []Attestation
	err := s.ask(ctx, name, func(p *puller, ref Ref) (err error) {
		if p.want, err = parsePlatform(opts.Platform); err != nil {
			return err
		}
		out, err = p.attestations(ctx, ref)
		return err
	})
	kept := out[:0]
	for _, a := range out {
		if strings.HasPrefix(a.PredicateType, opts.PredicateType) {
			kept = append(kept, a)
		}
	}
	return kept, fault.New("image attestations", name, err)
}

func (p *puller) attestations(ctx context.Context, ref Ref) ([]Attestation, error) {
	top, data, err := p.top(ctx, ref)
	if err != nil {
		return nil, err
	}
	entries, err := p.entries(ctx, data, 0)
	if err != nil {
		return nil, err
	}
	subjects, manifests := []digest.Digest{top}, []digest.Digest{}
	about := map[digest.Digest]digest.Digest{}
	if entries != nil {
		image, err := choose(entries, p.want)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, image.Digest)
		for _, e := range entries {
			if store.IsAttestation(e) && e.Annotations["vnd.docker.reference.digest"] == string(image.Digest) {
				manifests, about[e.Digest] = append(manifests, e.Digest), image.Digest
			}
		}
	}
	for _, d := range subjects {
		refs, err := p.referrers(ctx, d, "")
		if err != nil {
			return nil, err
		}
		for _, r := range refs {
			kind := bareType(r.ArtifactType)
			if kind == inTotoPayload || kind == dsseEnvelope || strings.HasPrefix(kind, sigstoreBundle) || strings.HasPrefix(kind, "application/vnd.in-toto") {
				manifests, about[r.Digest] = append(manifests, r.Digest), d
			}
		}
	}
	var out []Attestation
	for _, d := range manifests {
		if err := p.statements(ctx, &out, string(d), about[d]); err != nil {
			return nil, err
		}
	}
	for _, d := range subjects {
		if err := p.statements(ctx, &out, referrersTag(d)+".att", d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// statements reads those of one manifest.
func (p *puller) statements(ctx context.Context, out *[]Attestation, what string, subject digest.Digest) error {
	var data []byte
	if err := p.ask(ctx, func(src *source) (err error) {
		data, err = src.manifest(ctx, what)
		return err
	}); err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fault.Invalid("manifest %s is malformed: %w", what, err)
	}
	for _, l := range m.Layers {
		plain := l.MediaType == inTotoPayload || strings.HasPrefix(l.MediaType, "application/vnd.in-toto")
		if !plain && l.MediaType != dsseEnvelope && !strings.HasPrefix(l.MediaType, sigstoreBundle) {
			continue
		}
		if len(*out) == maxStatements {
			return fault.Invalid("the image has more than %d attestations", maxStatements)
		}
		var blob []byte
		if err := p.ask(ctx, func(src *source) (err error) {
			blob, err = src.smallBlob(ctx, l, maxStatement)
			return err
		}); err != nil {
			return err
		}
		a := Attestation{Subject: string(subject), Digest: string(l.Digest), Statement: blob, Signed: !plain}
		if !plain {
			var err error
			if a.Statement, err = unwrap(blob); err != nil {
				return fmt.Errorf("attestation %s: %w", l.Digest, err)
			}
			if a.Statement == nil {
				continue // a signature, no statement
			}
		}
		var head struct {
			PredicateType string `json:"predicateType"`
		}
		if err := json.Unmarshal(a.Statement, &head); err != nil {
			return fault.Invalid("attestation %s is malformed: %w", l.Digest, err)
		}
		a.PredicateType = head.PredicateType
		*out = append(*out, a)
	}
	return nil
}

// unwrap takes a statement out of an envelope, or a bundle with one.
func unwrap(data []byte) (json.RawMessage, error) {
	var b struct {
		envelope
		Envelope *envelope `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fault.Invalid("malformed: %w", err)
	}
	e := &b.envelope
	if b.Envelope != nil {
		e = b.Envelope
	}
	if e.PayloadType != inTotoPayload {
		return nil, nil
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return nil, fault.Invalid("malformed: %w", err)
	}
	return payload, nil
}
