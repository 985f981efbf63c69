package image

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// wire is the transport below authentication: it decides which scheme and
// which verification a host gets, whatever the layers above would try.
type wire struct {
	host   string // of the registry or mirror
	scheme string // the only one used for host; "" tries https, then http
	prefix string // path of a mirror before /v2/
	wireOptions

	strict, loose *http.Transport

	mu    sync.Mutex                 // guards what follows
	own   map[string]*http.Transport // of hosts with certificates
	limit *limitError                // that the host told last
}

type wireOptions struct {
	// lax hosts may be spoken to without verified TLS.
	lax   func(host string) bool
	certs *certificates
	stall time.Duration
}

func newWire(host, scheme, prefix string, opts *wireOptions) *wire {
	t := http.DefaultTransport.(*http.Transport).Clone() // proxies from the environment, HTTP/2
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.MaxIdleConnsPerHost = 8
	loose := t.Clone()
	loose.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // only for hosts that the caller listed
	return &wire{host: host, scheme: scheme, prefix: prefix, wireOptions: *opts, strict: t, loose: loose, own: map[string]*http.Transport{}}
}

func (w *wire) close() {
	w.strict.CloseIdleConnections()
	w.loose.CloseIdleConnections()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.own {
		if t != nil {
			t.CloseIdleConnections()
		}
	}
}

// transport is the one for a host. Certificates count for the host that they
// are for, and for no other that a registry leads to.
func (w *wire) transport(host string, lax bool) (*http.Transport, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, known := w.own[host]
	if !known {
		config, err := w.certs.config(host)
		if err != nil {
			return nil, err
		}
		if config != nil {
			t = w.strict.Clone()
			config.InsecureSkipVerify = lax
			t.TLSClientConfig = config
		}
		w.own[host] = t
	}
	switch {
	case t != nil:
		return t, nil
	case lax:
		return w.loose, nil
	}
	return w.strict, nil
}

func (w *wire) RoundTrip(in *http.Request) (*http.Response, error) {
	req := in.Clone(in.Context())
	own := req.URL.Host == w.host
	if own && w.scheme != "" {
		req.URL.Scheme = w.scheme
	}
	if own && w.prefix != "" && strings.HasPrefix(req.URL.Path, "/v2/") {
		req.URL.Path, req.URL.RawPath = w.prefix+req.URL.Path, ""
	}
	lax := own && w.scheme == "http" || w.lax(req.URL.Host)
	if req.URL.Scheme == "http" && !lax {
		// A redirect to plain HTTP is harmless for content that comes and has
		// a digest, but nothing secret goes there: no credentials, which token
		// servers get in the body, and no layers of a push.
		if own || req.Header.Get("Authorization") != "" || req.Body != nil && req.Body != http.NoBody {
			return nil, fault.Kind(errPlainHTTP, "%s would be reached by plain HTTP; list it in Insecure if that is meant", req.URL.Host)
		}
	}
	t, err := w.transport(req.URL.Host, lax)
	if err != nil {
		return nil, err
	}
	resp, err := w.watch(t, req)
	if err == nil && own && resp.StatusCode == http.StatusTooManyRequests {
		limit := limitOf(resp.Header, time.Now())
		w.mu.Lock()
		w.limit = limit
		w.mu.Unlock()
	}
	return resp, err
}

var errPlainHTTP = fmt.Errorf("plain HTTP refused")

// laxHosts says which hosts may go without verified TLS: those listed, and
// loopback, as in Docker.
func laxHosts(insecure []string) func(string) bool {
	return func(host string) bool {
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.Trim(name, "[]")
		if name == "localhost" || strings.HasSuffix(name, ".localhost") {
			return true
		}
		if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
			return true
		}
		return slices.Contains(insecure, host) || slices.Contains(insecure, name)
	}
}

// parseMirror reads the base URL of a mirror.
func parseMirror(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.Invalid("mirror %q is malformed: want a URL such as http://127.0.0.1:5000", s)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v2")
	return u, nil
}
