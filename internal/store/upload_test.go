package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestUploadGoesOnInAnotherProcess(t *testing.T) {
	s := newStore(t)
	u, err := s.NewUpload(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	id := u.ID()
	u.Write([]byte("hello "))
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	// A killed process left bytes that its state does not know of.
	f, _ := os.OpenFile(s.uploadPath(id, "data"), os.O_WRONLY|os.O_APPEND, 0)
	f.WriteString("wor")
	f.Close()
	if n, err := s.UploadSize("app", id); n != 9 || err != nil {
		t.Fatalf("size %d, %v", n, err)
	}
	for _, bad := range []string{"../../engine", "", id[1:], id + "0"} {
		if _, err := s.UploadSize("app", bad); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("upload %q: %v", bad, err)
		}
	}
	if _, err := s.OpenUpload(t.Context(), "other", id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another scope has it, too: %v", err)
	}
	if u, err = s.OpenUpload(t.Context(), "app", id); err != nil {
		t.Fatal(err)
	}
	u.Write([]byte("ld"))
	d := digest.FromString("hello world")
	if err := u.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if n, ok := s.HasBlob(d); !ok || n != 11 {
		t.Errorf("blob: %d, %v", n, ok)
	}
	if _, err := s.UploadSize("app", id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the upload is still there: %v", err)
	}
}

func TestHoldKeepsABlobUntilItEnds(t *testing.T) {
	s := newStore(t)
	push := func(scope, text string) digest.Digest {
		u, err := s.NewUpload(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		u.Write([]byte(text))
		d := digest.FromString(text)
		if err := u.Commit(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	kept, dropped, old := push("app", "kept"), push("app", "dropped"), push("app", "old")
	if err := s.Unhold("app", dropped); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-2 * IdleAge)
	os.Chtimes(s.holdPath("app", old), past, past)
	if scopes, _ := s.Holders(kept); len(scopes) != 1 || scopes[0] != "app" {
		t.Errorf("held by %q", scopes)
	}
	if s.Held("other", kept) || s.Held("app", old) {
		t.Error("held by a scope that does not")
	}
	got, err := s.Collect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.HasBlob(kept); !ok || len(got.Blobs) != 2 {
		t.Errorf("collected %v; the one held is there: %v", got.Blobs, ok)
	}
	if got, err = s.Collect(t.Context(), &CollectOptions{IdleAge: -1}); err != nil || len(got.Blobs) != 1 {
		t.Errorf("collected %v, %v", got, err)
	}
	if left, _ := os.ReadDir(s.path("holds")); len(left) > 0 {
		t.Errorf("holds left: %v", left)
	}
}

func TestIdleUploadsEnd(t *testing.T) {
	s := newStore(t)
	open, err := s.NewUpload(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 3 {
		u, err := s.NewUpload(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
		past := time.Now().Add(-time.Hour)
		os.Chtimes(s.uploadPath(u.ID(), "data"), past, past)
	}
	if n, err := s.Uploads(2 * time.Hour); n != 4 || err != nil {
		t.Errorf("%d uploads, %v", n, err)
	}
	if n, err := s.Uploads(time.Minute); n != 1 || err != nil {
		t.Errorf("%d uploads, %v", n, err)
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UploadSize("app", open.ID()); err != nil {
		t.Error(err)
	}
}
