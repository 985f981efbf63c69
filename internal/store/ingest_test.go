package store

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFollowersSeeOnlyVerifiedEnds(t *testing.T) {
	s := newStore(t)
	l := lease(t, s)
	d := digest.FromString("hello world")
	if err := l.Add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	in, err := s.Ingest(t.Context(), d, 11)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := in.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in.Write([]byte("hello wORLD"))
	if err := in.Commit(); !errors.Is(err, ErrDigest) {
		t.Fatalf("wrong content: %v", err)
	}
	in.Fail(ErrRestart)
	if _, err := io.ReadAll(r); !errors.Is(err, ErrRestart) {
		t.Errorf("the follower read to %v", err)
	}
	if err := in.Restart(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if in, err = s.Ingest(t.Context(), d, 11); err != nil || in.Offset() != 0 {
		t.Fatalf("begun anew: %v", err)
	}
	defer in.Close()
	if r, err = in.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer in.Close()
		for _, c := range "hello world" {
			in.Write([]byte(string(c)))
		}
		if err := in.Commit(); err != nil {
			t.Error(err)
		}
	}()
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello world" {
		t.Errorf("followed %q, %v", b, err)
	}
	if _, err := s.Ingest(t.Context(), d, 11); !errors.Is(err, ErrStored) {
		t.Errorf("once more: %v", err)
	}
}

func TestIngestRefusesTooMuch(t *testing.T) {
	s := newStore(t)
	d := digest.FromString("abc")
	in, err := s.Ingest(t.Context(), d, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.Write([]byte("abcd")); !errors.Is(err, ErrDigest) {
		t.Errorf("too much: %v", err)
	}
	for _, bad := range []digest.Digest{"", "sha256:", "sha256:../../x", "md5:abc", "sha256:" + digest.Digest(strings.Repeat("A", 64))} {
		if _, err := s.Ingest(t.Context(), bad, 1); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
