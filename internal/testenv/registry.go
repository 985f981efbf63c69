package testenv

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// RegistryOptions configure a Registry. Nil means a plain open one.
type RegistryOptions struct {
	User, Password string // asked for when User is set
	Token          bool   // by a bearer token from /token instead of basic authentication
	TLS            bool   // with a certificate nobody knows
	NoMount        bool   // blobs of other repositories are to be sent again
	NoPush         bool   // tokens are good for pulls only
}

// Registry is an image registry in this process: go-containerregistry's, with
// authentication, ranges, a record of requests, and faults on demand. It is
// safe for concurrent use.
type Registry struct {
	*httptest.Server
	Host string // 127.0.0.1:port

	options RegistryOptions
	handler http.Handler

	mu       sync.Mutex // guards what follows
	requests []string
	faults   []*Fault
	uploads  uploads
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(t testing.TB, opts *RegistryOptions) *Registry {
	t.Helper()
	r := &Registry{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))}
	if opts != nil {
		r.options = *opts
	}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // aborted connections are the faults' purpose
	if r.options.TLS {
		r.StartTLS()
	} else {
		r.Start()
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = u.Host
	t.Cleanup(func() {
		r.CloseClientConnections() // lets go of stalled answers
		r.Close()
	})
	return r
}

// Requests lists "METHOD path" of all requests so far whose text contains
// match, e.g. "GET /v2/app/blobs/".
func (r *Registry) Requests(match string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, q := range r.requests {
		if strings.Contains(q, match) {
			found = append(found, q)
		}
	}
	return found
}

// Push stores an image under repository:tag and returns it as built. Neither
// authentication nor faults apply.
func (r *Registry) Push(t testing.TB, repository, tag string, i Image) *Built {
	t.Helper()
	b := i.Build(t)
	r.upload(t, repository, b)
	r.PutManifest(t, repository, tag, b.manifest.MediaType, b.manifest.data)
	return b
}

// PushIndex stores several platforms under one tag and returns the digest of
// the index.
func (r *Registry) PushIndex(t testing.TB, repository, tag string, images ...Image) digest.Digest {
	t.Helper()
	var list []v1.Descriptor
	for _, i := range images {
		b := i.Build(t)
		r.upload(t, repository, b)
		r.PutManifest(t, repository, b.Manifest.String(), b.manifest.MediaType, b.manifest.data)
		d := b.manifest.Descriptor
		d.Platform = &b.platform
		list = append(list, d)
	}
	index := newIndex(t, list)
	r.PutManifest(t, repository, tag, index.MediaType, index.data)
	return index.Digest
}

func (r *Registry) upload(t testing.TB, repository string, b *Built) {
	t.Helper()
	for _, l := range append([]blob{b.config}, b.layers...) {
		r.inside(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+url.QueryEscape(l.Digest.String()), "", l.data)
		r.link(repository, l.Digest)
	}
}

// PutManifest stores a manifest word for word, whatever it says.
func (r *Registry) PutManifest(t testing.TB, repository, reference, mediaType string, data []byte) {
	t.Helper()
	r.inside(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, mediaType, data)
}

func (r *Registry) inside(t testing.TB, method, path, mediaType string, data []byte) {
	t.Helper()
	q := httptest.NewRequest(method, path, bytes.NewReader(data))
	q.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	if w.Code != http.StatusCreated {
		t.Fatalf("registry: %s %s: %d %s", method, path, w.Code, w.Body)
	}
}

const registryToken = "token-of-testenv"

func (r *Registry) serve(w http.ResponseWriter, q *http.Request) {
	line := q.Method + " " + q.URL.Path
	r.mu.Lock()
	r.requests = append(r.requests, line)
	r.mu.Unlock()
	if q.URL.Path == "/token" && r.options.Token {
		r.serveToken(w, q)
		return
	}
	if !r.allowed(q) {
		challenge := `Basic realm="testenv"`
		if r.options.Token {
			challenge = fmt.Sprintf(`Bearer realm="%s/token",service="testenv"`, r.URL)
			if repo, action := needs(q); repo != "" {
				challenge += fmt.Sprintf(`,scope="repository:%s:%s"`, repo, action)
			}
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	if f := r.fault(line); f != nil {
		f.Do(w, q, http.HandlerFunc(r.content))
		return
	}
	r.content(w, q)
}

func (r *Registry) allowed(q *http.Request) bool {
	if r.options.User == "" && !r.options.Token {
		return true
	}
	if r.options.Token {
		scopes, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "+registryToken)
		repo, action := needs(q)
		return ok && (repo == "" || slices.ContainsFunc(strings.Split(scopes, "/"), func(hex string) bool {
			scope, _ := base64.RawURLEncoding.DecodeString(hex)
			_, rest, _ := strings.Cut(string(scope), "repository:"+repo+":")
			return slices.Contains(strings.Split(rest, ","), action)
		}))
	}
	return r.credentials(q)
}

// needs says what a token must allow for a request.
func needs(q *http.Request) (repo, action string) {
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	for _, kind := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
		if i := strings.LastIndex(path, kind); i >= 0 {
			repo = path[:i]
		}
	}
	if q.Method == http.MethodGet || q.Method == http.MethodHead {
		return repo, "pull"
	}
	return repo, "push"
}

func (r *Registry) credentials(q *http.Request) bool {
	user, password, _ := q.BasicAuth()
	return r.options.User == "" || user == r.options.User && password == r.options.Password
}

func (r *Registry) serveToken(w http.ResponseWriter, q *http.Request) {
	if !r.credentials(q) {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	token := registryToken
	for _, scope := range q.URL.Query()["scope"] {
		if r.options.NoPush {
			scope = strings.ReplaceAll(scope, "push", "nothing")
		}
		token += "/" + base64.RawURLEncoding.EncodeToString([]byte(scope))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, token)
}
