package image_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
)

// A blob that the registry refuses once it has all of it is not sent for ever.
func TestPushGivesUp(t *testing.T) {
	for _, c := range []struct {
		name, code string
		status     int
	}{
		{"session lost at the end", "BLOB_UPLOAD_UNKNOWN", 404},
		{"refused at the end", "BLOB_UPLOAD_INVALID", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t, nil)
			s, name := imported(t, r)
			refuse := testenv.Refuse("PUT /v2/team/app/blobs/", 0, c.status, c.code, "no")
			r.Inject(testenv.Fault{Match: refuse.Match, Do: func(w http.ResponseWriter, q *http.Request, next http.Handler) {
				if q.ContentLength > 0 { // the config, which goes in this one request
					next.ServeHTTP(w, q)
					return
				}
				refuse.Do(w, q, next)
			}})
			ctx, stop := context.WithTimeout(t.Context(), time.Minute) // against a push without end
			defer stop()
			if _, err := s.Push(ctx, name, nil); err == nil || ctx.Err() != nil {
				t.Errorf("got %v", err)
			}
			if n := r.Sessions(); n != 0 {
				t.Errorf("%d uploads left open", n)
			}
		})
	}
}

// A damaged layer is sent once, and the error says that it is damaged.
func TestPushDamaged(t *testing.T) {
	r := testenv.NewRegistry(t, nil)
	s, name := imported(t, r)
	img, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(s.Root(), "blobs/sha256", strings.TrimPrefix(string(img.Blobs()[0].Digest), "sha256:"))
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	_, err = s.Push(ctx, name, &image.PushOptions{Compress: "keep"})
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if n := len(r.Requests("PATCH ")); n != 1 {
		t.Errorf("sent %d times", n)
	}
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d uploads left open", n)
	}
}

// What is still being fetched ends when the destination refuses something.
func TestCopyEndsTogether(t *testing.T) {
	a, b := testenv.NewRegistry(t, nil), testenv.NewRegistry(t, nil)
	built := a.Push(t, "team/app", "1", twoLayers("", ""))
	layer := pull(t, openStore(t, nil), a.Host+"/team/app:1", packed).Blobs()[0].Digest
	fetching := make(chan struct{})
	a.Inject(testenv.Fault{Match: "GET /v2/team/app/blobs/" + string(layer), Do: func(w http.ResponseWriter, q *http.Request, _ http.Handler) {
		close(fetching)
		<-q.Context().Done()
	}})
	refuse := testenv.Refuse("PUT ", 0, 403, "DENIED", "no")
	b.Inject(testenv.Fault{Match: "PUT ", Do: func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		<-fetching
		refuse.Do(w, q, next)
	}})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute) // against a fetch that is waited for
	defer stop()
	s := openStore(t, nil)
	_, err := s.Copy(ctx, a.Host+"/team/app:1", b.Host+"/x:1", &image.CopyOptions{StallTimeout: time.Hour})
	if !errors.Is(err, fs.ErrPermission) || ctx.Err() != nil {
		t.Errorf("copy of %s: %v", built.Manifest, err)
	}
	if n := b.Sessions(); n != 0 {
		t.Errorf("%d uploads left open", n)
	}
}
