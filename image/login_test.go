package image_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

const secret = "hunter2-is-secret"

func readConfig(t testing.TB, dir string) map[string]any {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode())
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLogin(t *testing.T) {
	for _, token := range []bool{false, true} {
		t.Run(fmt.Sprint("token ", token), func(t *testing.T) {
			r := testenv.NewRegistry(t, &testenv.RegistryOptions{User: "u", Password: secret, Token: token})
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			if err := os.WriteFile(dir+"/config.json", []byte(`{"psFormat":"x","auths":{"other":{"auth":"Zm86YmFy","new":1}}}`), 0o644); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, nil)
			_, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: secret + "-wrong"}, nil)
			if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), secret) {
				t.Errorf("wrong password: %v", err)
			}
			in, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: secret}, nil)
			if err != nil || in.Helper != "" || in.File != dir+"/config.json" {
				t.Fatalf("%+v, %v", in, err)
			}
			m := readConfig(t, dir)
			auths := m["auths"].(map[string]any)
			want := base64.StdEncoding.EncodeToString([]byte("u:" + secret))
			if m["psFormat"] != "x" || auths["other"].(map[string]any)["new"] != 1.0 || auths[r.Host].(map[string]any)["auth"] != want {
				t.Errorf("config is %v", m)
			}
			// The keychain of pulls and pushes finds it.
			c, err := image.DockerKeychain().Credentials(t.Context(), r.Host)
			if err != nil || c.Password != secret {
				t.Errorf("keychain: %+v, %v", c.Username, err)
			}
			if err := s.Logout(t.Context(), r.Host, nil); err != nil {
				t.Fatal(err)
			}
			if m = readConfig(t, dir); len(m["auths"].(map[string]any)) != 1 {
				t.Errorf("after logout: %v", m)
			}
			if err := s.Logout(t.Context(), r.Host, nil); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("logout again: %v", err)
			}
			if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A helper keeps what it is given; config.json only says that it does.
func TestLoginHelper(t *testing.T) {
	r := testenv.NewRegistry(t, &testenv.RegistryOptions{User: "u", Password: secret})
	bin, dir := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\ncase $1 in\nstore) cat >" + bin + "/kept;;\nerase) rm " + bin + "/kept;;\nget) cat " + bin + "/kept;;\nesac\n"
	if err := os.WriteFile(bin+"/docker-credential-test", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := os.WriteFile(dir+"/config.json", []byte(`{"credHelpers":{"`+r.Host+`":"test"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, opts := openStore(t, nil), &image.LoginOptions{Config: dir}
	in, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: secret}, opts)
	if err != nil || in.Helper != "test" {
		t.Fatalf("%+v, %v", in, err)
	}
	if data, _ := os.ReadFile(dir + "/config.json"); strings.Contains(string(data), base64.StdEncoding.EncodeToString([]byte("u:"+secret))) {
		t.Error("the secret is in the file, too")
	}
	t.Setenv("DOCKER_CONFIG", dir)
	if c, err := image.DockerKeychain().Credentials(t.Context(), r.Host); err != nil || c.Password != secret {
		t.Errorf("keychain: %v", err)
	}
	works, _ := os.ReadFile(bin + "/docker-credential-test")
	os.WriteFile(bin+"/docker-credential-test", []byte("#!/bin/sh\necho the keychain is locked\nexit 1\n"), 0o755)
	if err := s.Logout(t.Context(), r.Host, opts); err == nil || !strings.Contains(err.Error(), "is locked") {
		t.Errorf("a helper that keeps it: %v", err)
	}
	os.WriteFile(bin+"/docker-credential-test", works, 0o755)
	if err := s.Logout(t.Context(), r.Host, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin + "/kept"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the helper still has it")
	}
	os.WriteFile(bin+"/docker-credential-test", []byte("#!/bin/sh\necho credentials not found in native keychain\nexit 1\n"), 0o755)
	if err := s.Logout(t.Context(), r.Host, opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("logout again: %v", err)
	}
	os.WriteFile(bin+"/docker-credential-test", []byte("#!/bin/sh\ncat\nexit 1\n"), 0o755)
	if _, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: secret}, opts); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a helper that fails and tells: %v", err)
	}
}

// Logins at once lose none, and a link to the file stays a link.
func TestLoginTogether(t *testing.T) {
	dir, real := t.TempDir(), t.TempDir()
	if err := os.WriteFile(real+"/c.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real+"/c.json", dir+"/config.json"); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, nil)
	var wg sync.WaitGroup
	for range 5 {
		r := testenv.NewRegistry(t, nil)
		wg.Go(func() {
			if _, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: "p"}, &image.LoginOptions{Config: dir}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(readConfig(t, dir)["auths"].(map[string]any)); n != 5 {
		t.Errorf("%d of 5 logins are there", n)
	}
	if st, _ := os.Lstat(dir + "/config.json"); st.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
}

func TestLoginBadInput(t *testing.T) {
	s := openStore(t, nil)
	dir := t.TempDir()
	for _, host := range []string{"https://registry.example", "registry.example/team", "a b"} {
		if _, err := s.Login(t.Context(), host, image.Credentials{Username: "u", Password: secret}, &image.LoginOptions{Config: dir}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", host, err)
		}
	}
	r := testenv.NewRegistry(t, nil)
	for _, text := range []string{`{"auths":{"x":{"auth":"` + secret, `{"auths":"` + secret + `"}`, `[]`, `{"credsStore":7}`} {
		if err := os.WriteFile(dir+"/config.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Login(t.Context(), r.Host, image.Credentials{Username: "u", Password: "p"}, &image.LoginOptions{Config: dir})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
		if data, _ := os.ReadFile(dir + "/config.json"); string(data) != text {
			t.Errorf("%s became %s", text, data)
		}
	}
}
