package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

// hasManifest reports whether the repository has a manifest.
func (p *pusher) hasManifest(ctx context.Context, d digest.Digest) bool {
	got, err := p.dst.head(ctx, string(d))
	return err == nil && (got == d || got == "")
}

// document puts a manifest or index under a tag or digest.
func (p *pusher) document(ctx context.Context, d document, what string) error {
	_, err := p.put(ctx, d, what)
	return err
}

// put is document, and what the registry said in its headers.
func (p *pusher) put(ctx context.Context, d document, what string) (said http.Header, err error) {
	err = persist(ctx, func() error {
		said, err = p.dst.put(ctx, d, what)
		return err
	})
	return said, err
}

func (s *source) put(ctx context.Context, d document, what string) (http.Header, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.url("manifests", what), bytes.NewReader(d.data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", d.mediaType)
	resp, err := client.Do(req)
	if err != nil {
		return nil, s.explain(withoutQuery(err))
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent); err != nil {
		return nil, s.explain(err)
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != string(d.digest) {
		return nil, fmt.Errorf("registry %s stored the manifest as %s, not as %s: it changes what it is given", s.host, got, d.digest)
	}
	return resp.Header, nil
}

// refusal explains what only a push can run into; nil for other errors.
func (s *source) refusal(e *transport.Error) error {
	text := strings.ToLower(e.Error())
	switch {
	case has(e, transport.NameUnknownErrorCode) || e.StatusCode == http.StatusNotFound:
		return fault.NotExist("registry %s has no repository %s and makes none: %w; create it there first", s.host, s.repo, e)
	case has(e, transport.NameInvalidErrorCode):
		return fault.Invalid("registry %s does not accept the name %s: %w", s.host, s.repo, e)
	case strings.Contains(text, "quota") || e.StatusCode == http.StatusInsufficientStorage:
		return fmt.Errorf("registry %s has no room left for %s: %w; delete images there or ask for a larger quota", s.host, s.repo, e)
	case e.StatusCode == http.StatusRequestEntityTooLarge:
		return fault.Invalid("registry %s takes no blobs or manifests of this size (or a proxy before it does not): %w", s.host, e)
	case e.StatusCode == http.StatusMethodNotAllowed:
		return fault.Kind(fs.ErrPermission, "registry %s takes no pushes: %w; it is read-only or a mirror", s.host, e)
	case has(e, transport.ManifestInvalidErrorCode) || has(e, transport.ManifestBlobUnknownErrorCode) || has(e, transport.DigestInvalidErrorCode) || e.StatusCode == http.StatusUnsupportedMediaType:
		return fault.Invalid("registry %s does not accept the image: %w", s.host, e)
	}
	return nil
}

func has(e *transport.Error, code transport.ErrorCode) bool {
	for _, d := range e.Errors {
		if d.Code == code {
			return true
		}
	}
	return false
}

// asRefusal finds the registry's answer in err.
func (s *source) asRefusal(err error) error {
	var e *transport.Error
	if !s.push || !errors.As(err, &e) {
		return nil
	}
	return s.refusal(e)
}
