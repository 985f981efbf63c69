package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/journal"
)

// file is an entry of a test layer.
type file struct {
	name, body string
	typ        byte
	link       string
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.typ, Linkname: f.link, Mode: 0o644, Size: int64(len(f.body)), ModTime: time.Unix(1e9, 0)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func openTest(t testing.TB, opts *Options) *Store {
	t.Helper()
	if opts == nil {
		opts = &Options{}
	}
	if opts.Root == "" {
		opts.Root, opts.State = t.TempDir(), t.TempDir()
	}
	if opts.Keychain == nil {
		opts.Keychain = noKeys{}
	}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.s.Wait)
	return s
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("unpacking layers needs root")
	}
}

func importTest(t testing.TB, s *Store, ref string, body string) *Image {
	t.Helper()
	img, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "file", body: body})), &ImportOptions{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// actions are the events about images, oldest first.
func actions(t testing.TB, s *Store) []string {
	t.Helper()
	var out []string
	for ev, err := range s.s.Journal().Read(t.Context(), &journal.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == "image" {
			out = append(out, strings.TrimSpace(ev.Action+" "+familiarOrID(ev.Attributes["name"])))
		}
	}
	return out
}

func familiarOrID(s string) string { return familiar(s) }

// leftovers lists what only a live or killed operation may have in the store.
func leftovers(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{"tmp", "leases", "trash", "blobs/partial"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	return out
}

// contents lists blobs and layers.
func contents(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{"layers", "blobs/sha256"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != ".lock" {
				out = append(out, dir+"/"+e.Name())
			}
		}
	}
	slices.Sort(out)
	return out
}
