package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// maxReferrers bounds what is listed of one subject.
const maxReferrers = 10_000

// referrersTag is where registries without the referrers API keep the list:
// distribution specification, "Referrers Tag Schema".
func referrersTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// referrers lists the manifests that name a subject, by the API or, where
// there is none, by the tag. A registry that knows none gives an empty list.
func (s *source) referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	list, err := s.askReferrers(ctx, subject, artifactType)
	if errors.Is(err, fs.ErrNotExist) || statusOf(err) == http.StatusMethodNotAllowed || statusOf(err) == http.StatusBadRequest {
		list, err = s.taggedReferrers(ctx, subject)
	}
	if err != nil {
		return nil, err
	}
	var out []ocispec.Descriptor
	for _, d := range list {
		// A registry need not filter, and says whether it did: we do it anyway.
		if store.CheckDigest(d.Digest) == nil && (artifactType == "" || d.ArtifactType == artifactType) {
			out = append(out, d)
		}
	}
	return out, nil
}

// referrers asks everybody: a mirror that lists nothing may just not know.
func (p *puller) referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	var failures []error
	seen := map[digest.Digest]bool{}
	for _, src := range p.sources {
		var some []ocispec.Descriptor
		err := persist(ctx, func() (err error) {
			some, err = src.referrers(ctx, subject, artifactType)
			return err
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failures = addFailure(failures, src, err)
		}
		for _, d := range some {
			if !seen[d.Digest] {
				out, seen[d.Digest] = append(out, d), true
			}
		}
	}
	if len(failures) == len(p.sources) {
		return nil, joinFailures(failures)
	}
	return out, nil
}

func (s *source) askReferrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	at := s.url("referrers", string(subject))
	if artifactType != "" {
		at += "?" + url.Values{"artifactType": {artifactType}}.Encode()
	}
	var all []ocispec.Descriptor
	for at != "" {
		var page ocispec.Index
		next, err := s.page(ctx, at, &page)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Manifests...)
		if len(page.Manifests) == 0 {
			next = ""
		}
		if len(all) > maxReferrers {
			return nil, fault.Invalid("registry %s lists more than %d manifests about %s", s.host, maxReferrers, subject)
		}
		at = next
	}
	return all, nil
}

func (s *source) taggedReferrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	data, err := s.manifest(ctx, referrersTag(subject))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fault.Invalid("registry %s: the list of what refers to %s is malformed: %w", s.host, subject, err)
	}
	return index.Manifests, nil
}

// smallBlob gets a blob of at most max bytes into memory.
func (s *source) smallBlob(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
	if err := store.CheckDigest(d.Digest); err != nil {
		return nil, err
	}
	if d.Size > max {
		return nil, fault.Invalid("blob %s has %d bytes, more than the %d allowed", d.Digest, d.Size, max)
	}
	resp, err := s.do(ctx, http.MethodGet, s.url("blobs", string(d.Digest)), http.Header{"Accept-Encoding": {"identity"}}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return nil, s.explain(err)
	}
	if int64(len(data)) > max {
		return nil, fault.Invalid("registry %s: blob %s has more than the %d bytes allowed", s.host, d.Digest, max)
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("registry %s: blob %s: got content %s: %w", s.host, d.Digest, got, store.ErrDigest)
	}
	return data, nil
}

// bareType is a media type without its parameters.
func bareType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}
