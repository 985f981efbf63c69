package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type userKeys map[string]Credentials

func (k userKeys) Credentials(_ context.Context, registry string) (Credentials, error) {
	return k[registry], nil
}

// wantBasic makes the registry ask for user and password.
func (r *testRegistry) wantBasic(user, password string) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if req.Header.Get("Authorization") == want {
			return w, false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return w, true
	})
}

// wantToken makes the registry ask for a token, which a server gives to
// anybody who says password, or to all when it is "".
func (r *testRegistry) wantToken(t *testing.T, password string) *httptest.Server {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, p, _ := req.BasicAuth()
		if p != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"token":"t-%s"}`, req.URL.Query().Get("scope"))
	}))
	t.Cleanup(tokens.Close)
	// go-containerregistry refuses addresses of private networks here, but not names.
	realm := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if req.Header.Get("Authorization") == "Bearer t-repository:team/app:pull" {
			return w, false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return w, true
	})
	return tokens
}

func TestPullWithCredentials(t *testing.T) {
	r := newRegistry(t)
	r.push("team/app", "v1", "", tarOf(t, file{name: "a", body: "1"}))
	name := r.host() + "/team/app:v1"
	good, bad := userKeys{r.host(): {Username: "u", Password: "p"}}, userKeys{r.host(): {Username: "u", Password: "wrong"}}
	for _, c := range []struct {
		name  string
		want  func()
		keys  Keychain
		works bool
	}{
		{"basic", func() { r.wantBasic("u", "p") }, good, true},
		{"basic, wrong", func() { r.wantBasic("u", "p") }, bad, false},
		{"basic, none", func() { r.wantBasic("u", "p") }, userKeys{}, false},
		{"token", func() { r.wantToken(t, "p") }, good, true},
		{"token, wrong", func() { r.wantToken(t, "p") }, bad, false},
		{"token for everybody", func() { r.wantToken(t, "") }, userKeys{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want()
			s := openTest(t, &Options{Keychain: c.keys})
			_, err := s.Pull(t.Context(), name, nil)
			if c.works && err != nil {
				t.Fatal(err)
			}
			if !c.works && (!errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "log in")) {
				t.Errorf("%v, want a refusal that says how to log in", err)
			}
		})
	}
}

func TestDockerConfigAndCredentialHelper(t *testing.T) {
	r := newRegistry(t)
	r.push("app", "v1", "", tarOf(t, file{name: "a", body: "1"}))
	r.wantBasic("u", "p")
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	config := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pull := func() error {
		s := openTest(t, &Options{Keychain: DockerKeychain()})
		_, err := s.Pull(t.Context(), r.host()+"/app:v1", nil)
		return err
	}
	if err := pull(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without a config: %v", err)
	}
	config(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.host(), base64.StdEncoding.EncodeToString([]byte("u:p"))))
	if err := pull(); err != nil {
		t.Errorf("from config.json: %v", err)
	}
	helper := "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-amphoratest"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	config(fmt.Sprintf(`{"credHelpers":{%q:"amphoratest"}}`, r.host()))
	if err := pull(); err != nil {
		t.Errorf("from a credential helper: %v", err)
	}
	// A helper that is not installed must not spoil images that need none.
	config(`{"credsStore":"not-installed"}`)
	if err := pull(); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "not-installed") {
		t.Errorf("a missing helper: %v", err)
	}
	r.set(nil)
	if err := pull(); err != nil {
		t.Errorf("a missing helper and no need for it: %v", err)
	}
}

func TestInsecureRegistries(t *testing.T) {
	r := newRegistry(t)
	r.push("app", "v1", "", tarOf(t, file{name: "a", body: "1"}))
	// A name that is not loopback by its looks leads to this registry's port.
	w := newWire("registry.example", "https", "", &wireOptions{lax: laxHosts(nil), certs: &certificates{}})
	req, _ := http.NewRequest(http.MethodGet, "http://registry.example/v2/", nil)
	req.URL.Host = "other.example"
	req.Header.Set("Authorization", "Basic secret")
	if _, err := w.RoundTrip(req); !errors.Is(err, errPlainHTTP) {
		t.Errorf("credentials by plain HTTP: %v", err)
	}
	req, _ = http.NewRequest(http.MethodPatch, "http://other.example/upload", strings.NewReader("a layer"))
	if _, err := w.RoundTrip(req); !errors.Is(err, errPlainHTTP) {
		t.Errorf("content by plain HTTP: %v", err)
	}
	for host, lax := range map[string]bool{"localhost": true, "localhost:5000": true, "127.0.0.1:80": true, "127.9.9.9": true, "[::1]:5000": true, "x.localhost": true,
		"10.0.0.1:5000": false, "registry.example": false, "listed.example": true, "listed.example:5000": true, "port.example:5000": true, "port.example": false} {
		if got := laxHosts([]string{"listed.example", "port.example:5000"})(host); got != lax {
			t.Errorf("%s may be insecure: %v", host, got)
		}
	}
	tls := httptest.NewTLSServer(r)
	defer tls.Close()
	host := strings.TrimPrefix(tls.URL, "https://")
	s := openTest(t, nil)
	pullOne(t, s, host+"/app:v1", nil) // loopback: unverified TLS will do
	s = openTest(t, &Options{Mirrors: map[string][]string{"registry.invalid": {tls.URL}}})
	pullOne(t, s, "registry.invalid/app:v1", nil)
}
