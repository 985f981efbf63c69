package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// source is one place that may have a repository: a mirror or the registry.
type source struct {
	host     string // as keychains and messages call it
	repo     string
	registry name.Registry
	keys     Keychain
	log      *slog.Logger
	wire     *wire
	scopes   []string // asked of token servers; nil: to pull from repo
	push     bool
	login    bool   // credentials are being tried
	origin   bool   // the registry itself
	fixed    string // address of the only blob that it has

	mu     sync.Mutex // guards what follows
	client *http.Client
	down   error // why it is not asked again in this pull
	keyErr error // why it is asked without credentials
}

// sources lists where to look for r: mirrors that worked lately, the registry,
// mirrors that did not. stall is how long any of their connections may be
// still.
func (s *Store) sources(r Ref, stall time.Duration) ([]*source, error) {
	if stall <= 0 {
		stall = stallTimeout
	}
	certs, err := newCertificates(s.opts.Certificates)
	if err != nil {
		return nil, err
	}
	wire := func(host, scheme, prefix string) *wire {
		return newWire(host, scheme, prefix, &wireOptions{lax: laxHosts(s.opts.Insecure), certs: certs, stall: stall})
	}
	lax := laxHosts(s.opts.Insecure)
	keys := s.opts.Keychain
	if keys == nil {
		keys = DockerKeychain()
	}
	var out, last []*source
	for _, m := range s.opts.Mirrors[r.Registry] {
		u, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		reg, err := name.NewRegistry(u.Host, name.Insecure)
		if err != nil {
			return nil, fault.Invalid("mirror %q: %w", m, err)
		}
		src := &source{host: u.Host, repo: r.Repository, registry: reg, keys: keys, log: s.log, wire: wire(u.Host, u.Scheme, u.Path)}
		if s.health.sick(u.Host) {
			last = append(last, src)
		} else {
			out = append(out, src)
		}
	}
	scheme, opts := "https", []name.Option{}
	if lax(r.Registry) {
		scheme, opts = "", append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(r.Registry, opts...)
	if err != nil {
		return nil, fault.Invalid("registry %q: %w", r.Registry, err)
	}
	out = append(out, &source{host: r.Registry, repo: r.Repository, registry: reg, keys: keys, log: s.log, origin: true,
		wire: wire(reg.RegistryStr(), scheme, "")})
	return append(out, last...), nil
}

// originOf is the registry itself among sources; the others are closed.
func originOf(all []*source) *source {
	var origin *source
	for _, src := range all {
		if src.origin {
			origin = src
		} else {
			src.wire.close()
		}
	}
	return origin
}

// connect authenticates, once.
func (s *source) connect(ctx context.Context) (*http.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil || s.down != nil {
		return s.client, s.down
	}
	if s.fixed != "" { // no registry: no credentials go there
		s.client = &http.Client{Transport: s.wire}
		return s.client, nil
	}
	cred, err := s.keys.Credentials(ctx, s.host)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.keyErr = err // most images need none
		s.log.Warn("image: no credentials, going on without", "registry", s.host, "err", err)
	}
	scopes := s.scopes
	if scopes == nil {
		scopes = []string{"repository:" + s.repo + ":pull"}
	}
	rt, err := transport.NewWithContext(ctx, s.registry, cred.authenticator(), s.wire, scopes)
	if err != nil && ctx.Err() == nil && len(scopes) > 1 && !temporary(err) {
		// Some token servers give nothing at all when one scope is denied.
		rt, err = transport.NewWithContext(ctx, s.registry, cred.authenticator(), s.wire, scopes[:1])
	}
	if err != nil {
		if ctx.Err() == nil && !temporary(err) {
			s.down = s.explain(err)
		}
		return nil, s.explain(err)
	}
	s.client = &http.Client{Transport: rt}
	return s.client, nil
}

// explain gives errors of a registry their kind and their cure.
func (s *source) explain(err error) error {
	var e *transport.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("registry %s: %w", s.host, err)
	}
	if refused := s.asRefusal(err); refused != nil {
		return refused
	}
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint := "the repository does not exist there or needs other credentials: log in with Login or `docker login " + s.host + "`, or set a Keychain"
		if s.login {
			return fault.Kind(fs.ErrPermission, "registry %s does not accept the user name and password: %w", s.host, err)
		}
		if s.keyErr != nil {
			hint += fmt.Sprintf(" (credentials could not be read: %v)", s.keyErr)
		}
		return fault.Kind(fs.ErrPermission, "registry %s denies access to %s: %w; %s", s.host, s.repo, err, hint)
	case http.StatusNotFound:
		return fault.NotExist("registry %s has no such image: %w", s.host, err)
	case http.StatusTooManyRequests:
		return s.limited(err)
	}
	return fmt.Errorf("registry %s: %w", s.host, err)
}

func (s *source) url(kind, what string) string {
	if s.fixed != "" {
		return s.fixed
	}
	return s.registry.Scheme() + "://" + s.registry.RegistryStr() + "/v2/" + s.repo + "/" + kind + "/" + what
}

var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, store.DockerIndex, store.DockerManifest,
	store.DockerSchema1Signed + ";q=0.1", store.DockerSchema1 + ";q=0.1", // to refuse them by name
}, ", ")

// do sends a request and checks its status.
func (s *source) do(ctx context.Context, method, url string, header http.Header, codes ...int) (*http.Response, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, s.explain(withoutQuery(err))
	}
	if err := transport.CheckError(resp, codes...); err != nil {
		resp.Body.Close()
		return nil, s.explain(err)
	}
	return resp, nil
}

// head asks which digest a tag has. It is "" when the registry does not say.
func (s *source) head(ctx context.Context, tag string) (digest.Digest, error) {
	resp, err := s.do(ctx, http.MethodHead, s.url("manifests", tag), http.Header{"Accept": {manifestTypes}}, http.StatusOK)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if store.CheckDigest(d) != nil {
		return "", nil
	}
	return d, nil
}

// manifest gets a manifest or index by tag or digest.
func (s *source) manifest(ctx context.Context, what string) ([]byte, error) {
	resp, err := s.do(ctx, http.MethodGet, s.url("manifests", what), http.Header{"Accept": {manifestTypes}}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, store.MaxMetadata+1))
	if err != nil {
		return nil, s.explain(err)
	}
	if len(data) > store.MaxMetadata {
		return nil, fault.Invalid("registry %s: the manifest is larger than %d bytes", s.host, store.MaxMetadata)
	}
	// Schema 1 is refused by name, before its digest, which is not that of its
	// bytes, gives a misleading error.
	if _, _, err := store.ParseIndex(data); errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	if want := digest.Digest(what); store.CheckDigest(want) == nil && digest.FromBytes(data) != want {
		return nil, fmt.Errorf("registry %s: manifest %s: got content %s: %w", s.host, want, digest.FromBytes(data), store.ErrDigest)
	}
	return data, nil
}
