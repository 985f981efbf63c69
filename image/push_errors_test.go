package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestPushErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault testenv.Fault
		is    error
		say   string
	}{
		{"denied", testenv.Refuse("POST ", 0, 403, "DENIED", "requested access to the resource is denied"), fs.ErrPermission, "log in"},
		{"unauthorized", testenv.Refuse("POST ", 0, 401, "UNAUTHORIZED", "authentication required"), fs.ErrPermission, "log in"},
		{"name unknown", testenv.Refuse("POST ", 0, 404, "NAME_UNKNOWN", "repository name not known to registry"), fs.ErrNotExist, "create it"},
		{"quota", testenv.Refuse("PUT ", 0, 403, "DENIED", "quota exceeded"), nil, "no room left"},
		{"too large", testenv.Refuse("PATCH ", 0, 413, "SIZE_INVALID", "too big"), fs.ErrInvalid, "of this size"},
		{"read-only", testenv.Refuse("POST ", 0, 405, "UNSUPPORTED", "The operation is unsupported."), fs.ErrPermission, "read-only"},
		{"schema", testenv.Refuse("PUT /v2/team/app/manifests", 0, 400, "MANIFEST_INVALID", "manifest invalid"), fs.ErrInvalid, "does not accept"},
		{"rate limit", testenv.Answer("PUT /v2/team/app/manifests", 2, 429), nil, ""},
		{"server error", testenv.Answer("POST ", 2, 500), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t, nil)
			s, name := imported(t, r)
			r.Inject(c.fault)
			_, err := s.Push(t.Context(), name, nil)
			if c.say == "" {
				if err != nil {
					t.Errorf("not got over: %v", err)
				}
				return
			}
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
			r.Heal()
			push(t, s, name, nil)
		})
	}
}

func TestPushCredentials(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  testenv.RegistryOptions
		cred  image.Credentials
		works bool
	}{
		{"basic", testenv.RegistryOptions{User: "u", Password: "p"}, image.Credentials{Username: "u", Password: "p"}, true},
		{"basic wrong", testenv.RegistryOptions{User: "u", Password: "p"}, image.Credentials{Username: "u", Password: "hunter2"}, false},
		{"token", testenv.RegistryOptions{User: "u", Password: "p", Token: true}, image.Credentials{Username: "u", Password: "p"}, true},
		{"token without push", testenv.RegistryOptions{User: "u", Password: "p", Token: true, NoPush: true}, image.Credentials{Username: "u", Password: "p"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t, &c.opts)
			s := openStore(t, &image.Options{Keychain: keys{r.Host: c.cred}, Mirrors: map[string][]string{r.Host: {"http://127.0.0.1:1"}}})
			name := r.Host + "/team/app:1"
			if _, err := s.Import(t.Context(), bytes.NewReader(testenv.Tar(t, big(2))), &image.ImportOptions{Ref: name}); err != nil {
				t.Fatal(err)
			}
			_, err := s.Push(t.Context(), name, nil)
			if (err == nil) != c.works || err != nil && (!errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A push that is given up leaves no upload open, but for one whose beginning
// the registry was answering just then; the next one sends the rest.
func TestPushCancelled(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s, name := imported(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	r.Inject(testenv.Fault{Match: "PATCH ", Times: 1, Do: func(w http.ResponseWriter, q *http.Request, _ http.Handler) {
		cancel()
		io.Copy(io.Discard, q.Body) // ends when the client goes
	}})
	if _, err := s.Push(ctx, name, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d uploads left open", n)
	}
	push(t, s, name, nil)
}

// A layer whose blob is gone is made again from its files.
func TestPushWithoutBlob(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("unpacking layers needs root")
	}
	r := testenv.NewRegistry(t, nil)
	built := r.Push(t, "team/app", "1", twoLayers("", ""))
	s := openStore(t, nil)
	img := pull(t, s, r.Host+"/team/app:1", nil)
	for _, b := range img.Blobs() {
		if err := os.Remove(s.Root() + "/blobs/sha256/" + b.Digest.Encoded()); err != nil {
			t.Fatal(err)
		}
	}
	// The registry has it: nothing is to be made.
	tag(t, s, r.Host+"/team/app:1", r.Host+"/team/app:2")
	if done := push(t, s, r.Host+"/team/app:2", nil)[0]; done.Digest != string(built.Manifest) {
		t.Errorf("digest %s, want %s", done.Digest, built.Manifest)
	}
	other := testenv.NewRegistry(t, nil)
	tag(t, s, r.Host+"/team/app:1", other.Host+"/team/app:1")
	done, err := s.Push(t.Context(), other.Host+"/team/app:1", nil)
	if err != nil {
		if !strings.Contains(err.Error(), "pull or load the image again") {
			t.Error(err)
		}
		t.Logf("not the archive that it was: %v", err)
		return
	}
	if again := pull(t, openStore(t, nil), done[0].Ref.String(), nil); again.ID() != string(built.ID) {
		t.Errorf("image %s, want %s", again.ID(), built.ID)
	}
}
