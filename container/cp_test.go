package container

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/amphora-go/amphora/volume"
)

// makeTree makes files below dir: "d/f" with its own name as content, "d/",
// "l -> target".
func makeTree(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		name, target, link := strings.Cut(n, " -> ")
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, p)
		case strings.HasSuffix(n, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// treeOf lists what is below dir of a file system: "d/ d/f=content l".
func treeOf(t *testing.T, fsys fs.FS, dir string) string {
	t.Helper()
	var out []string
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type().IsRegular():
			b, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			rel += "=" + string(b)
		}
		out = append(out, rel)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(out, " ")
}

// cpCases are the rules of docker cp: what is there on both sides, what is
// copied where, and what the destination holds then, or the error.
var cpCases = []struct {
	src, dst      []string
	from, to      string
	follow        bool
	want, message string
}{
	{src: []string{"f"}, from: "f", to: "new", want: "new=f"},
	{src: []string{"f"}, from: "f", to: "new/", message: "does not exist"},
	{src: []string{"f"}, from: "f", to: "no/new", message: "does not exist"},
	{src: []string{"f"}, dst: []string{"g"}, from: "f", to: "g", want: "g=f"},
	{src: []string{"f"}, dst: []string{"d/"}, from: "f", to: "d", want: "d/ d/f=f"},
	{src: []string{"f"}, dst: []string{"d/"}, from: "f", to: "d/", want: "d/ d/f=f"},
	{src: []string{"f"}, dst: []string{"d/f/x"}, from: "f", to: "d", message: "cannot overwrite directory"},
	{src: []string{"f"}, from: "f/", to: "new", message: "not a directory"},
	{src: []string{"f"}, from: "none", to: "new", message: "does not exist"},
	{src: []string{"s/f"}, from: "s", to: "new", want: "new/ new/f=s/f"},
	{src: []string{"s/f"}, from: "s", to: "new/", want: "new/ new/f=s/f"},
	{src: []string{"s/f"}, from: "s/.", to: "new", want: "new/ new/f=s/f"},
	{src: []string{"s/f"}, dst: []string{"g"}, from: "s", to: "g", message: "cannot copy the directory"},
	{src: []string{"s/f"}, dst: []string{"d/"}, from: "s", to: "d", want: "d/ d/s/ d/s/f=s/f"},
	{src: []string{"s/f"}, dst: []string{"d/g"}, from: "s/.", to: "d", want: "d/ d/f=s/f d/g=d/g"},
	{src: []string{"s/f"}, dst: []string{"d/s"}, from: "s", to: "d", message: "cannot overwrite non-directory"},
	{src: []string{"f", "l -> f"}, from: "l", to: "new", want: "new"}, // the link itself
	{src: []string{"f", "l -> f"}, from: "l", to: "new", follow: true, want: "new=f"},
	{src: []string{"s/f", "l -> s"}, from: "l/", to: "new", want: "new/ new/f=s/f"},
	{src: []string{"s/f", "l -> s"}, dst: []string{"d/"}, from: "l/", to: "d", want: "d/ d/l/ d/l/f=s/f"},
	{src: []string{"s/f", "l -> s"}, dst: []string{"d/"}, from: "l", to: "d", follow: true, want: "d/ d/l/ d/l/f=s/f"},
	{src: []string{"f"}, dst: []string{"d/", "l -> d"}, from: "f", to: "l", want: "d/ d/f=f l"},
	{src: []string{"f"}, dst: []string{"g", "l -> g"}, from: "f", to: "l", want: "g=f l"},
}

func TestCopyRules(t *testing.T) {
	b := newBench(t)
	for _, running := range []bool{true, false} {
		c := b.create(t, Spec{}, "pause")
		if running {
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i, tt := range cpCases {
			name := fmt.Sprintf("running=%v %v %v: cp %s %s", running, tt.src, tt.dst, tt.from, tt.to)
			check := func(way, got string, err error) {
				if tt.message != "" {
					says(t, err, tt.message)
				} else if err != nil || got != tt.want {
					t.Errorf("%s, %s: %q, %v; want %q", name, way, got, err, tt.want)
				}
			}
			// In: the destination is made by a copy of its parent.
			src, dst := t.TempDir(), t.TempDir()
			makeTree(t, src, tt.src...)
			makeTree(t, dst, tt.dst...)
			inside := fmt.Sprintf("/in%d", i)
			if _, err := c.CopyTo(t.Context(), dst, inside, nil); err != nil {
				t.Fatal(err)
			}
			_, err := c.CopyTo(t.Context(), src+"/"+tt.from, inside+"/"+tt.to, &CopyOptions{FollowLink: tt.follow})
			root, ferr := c.FS(t.Context())
			if ferr != nil {
				t.Fatal(ferr)
			}
			check("in", treeOf(t, root, inside[1:]), err)
			root.Close()
			// Out.
			inside = fmt.Sprintf("/out%d", i)
			if _, err := c.CopyTo(t.Context(), src, inside, nil); err != nil {
				t.Fatal(err)
			}
			_, err = c.CopyFrom(t.Context(), inside+"/"+tt.from, dst+"/"+tt.to, &CopyOptions{FollowLink: tt.follow})
			got := treeOf(t, os.DirFS(dst), ".")
			check("out", strings.ReplaceAll(got, "./", ""), err)
		}
	}
}

// tarOf makes an archive: "d/", "f" with its name as content, "l -> target".
func tarOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	w.Close()
	return &b
}

// read returns the names of an archive, with owners.
func readNames(t *testing.T, r io.ReadCloser) (names []string) {
	t.Helper()
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %d:%d", h.Name, h.Uid, h.Gid))
	}
}

func TestArchiveAndExtract(t *testing.T) {
	b := newBench(t)
	for _, running := range []bool{true, false} {
		c := b.create(t, Spec{Process: Process{User: "7:8"}}, "pause")
		if running {
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		in := tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 99}, tar.Header{Typeflag: tar.TypeReg, Name: "d/e/f", Uid: 3, Gid: 4},
			tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "d/e/f", Uid: 3, Gid: 4, Mode: 0o755}, tar.Header{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "/tmp/d"},
			tar.Header{Typeflag: tar.TypeReg, Name: "soft/through"})
		before, err := c.Stat(t.Context(), "/tmp")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Extract(t.Context(), "/tmp", bytes.NewReader(in.Bytes()), nil); err != nil {
			t.Fatal(err)
		}
		if st, err := c.Stat(t.Context(), "/tmp"); err != nil || st.Mode != before.Mode || !st.Mode.IsDir() || st.Name != "tmp" {
			t.Errorf("%+v, %v; before %+v", st, err, before)
		}
		r, st, err := c.Archive(t.Context(), "/tmp/soft/")
		if err != nil || st.Name != "soft" || !st.Mode.IsDir() {
			t.Fatalf("%+v, %v", st, err)
		}
		if got, want := readNames(t, r), []string{"soft/ 0:0", "soft/e/ 0:0", "soft/e/f 3:4", "soft/through 0:0"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if r, st, err = c.Archive(t.Context(), "/tmp/soft"); err != nil || st.LinkTarget != "/tmp/d" {
			t.Fatalf("%+v, %v", st, err)
		}
		r.Close() // unread
		if err := c.Extract(t.Context(), "/tmp", bytes.NewReader(in.Bytes()), &ExtractOptions{CopyUIDGID: true, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
		if r, _, err = c.Archive(t.Context(), "/tmp/d/."); err != nil {
			t.Fatal(err)
		}
		if got, want := readNames(t, r), []string{"./ 0:0", "e/ 0:0", "e/f 7:8", "through 7:8"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		is(t, c.Extract(t.Context(), "/none", in, nil), fs.ErrNotExist)
		is(t, c.Extract(t.Context(), "/etc/passwd", in, nil), fs.ErrInvalid)
		_, _, err = c.Archive(t.Context(), "/none")
		is(t, err, fs.ErrNotExist)
		r, _, err = c.Archive(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		if names := readNames(t, r); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "proc/1") || strings.HasPrefix(n, "sys/kernel") }) || len(names) < 10 {
			t.Errorf("the archive of / holds %d names, or the kernel's files", len(names))
		}
	}
}

func TestCopyIntoVolumes(t *testing.T) {
	b := newBench(t)
	host := t.TempDir()
	mounts := []volume.Mount{{Type: volume.Named, Source: "data", Target: "/data"}, {Type: volume.Bind, Source: host, Target: "/fixed", ReadOnly: true},
		{Type: volume.Named, Source: "users", Target: "/etc"}}
	for _, running := range []bool{false, true} {
		c := b.create(t, Spec{Mounts: mounts, Security: Security{ReadOnly: true}}, "pause")
		if running {
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		name := fmt.Sprintf("running-%v", running)
		if err := c.Extract(t.Context(), "/data", tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: name}), nil); err != nil {
			t.Fatal(err)
		}
		if got := hostFile(t, filepath.Join(b.root.Dir, "volumes/data/data", name)); got != name {
			t.Errorf("%q in the volume", got)
		}
		for _, dir := range []string{"/fixed", "/tmp"} {
			err := c.Extract(t.Context(), dir, tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"}), nil)
			is(t, err, fs.ErrPermission)
			says(t, err, "read-only")
		}
		// What is copied before the first start does not keep the image's files out.
		if err := c.Extract(t.Context(), "/etc", tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: name}), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Stat(t.Context(), "/etc/passwd"); err != nil {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(host); len(entries) > 0 {
		t.Errorf("the read-only mount holds %v", entries)
	}
}

func TestCopyFS(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "pause")
	files := fstest.MapFS{"a/b.txt": {Data: []byte("b"), Mode: 0o600}, "run.sh": {Data: []byte("#!"), Mode: 0o755}}
	for range 2 {
		if err := c.CopyFS(t.Context(), "/opt/app", files); err != nil {
			t.Fatal(err)
		}
	}
	if got := execOutput(t, c, "sh", "-c", "cat /opt/app/a/b.txt /opt/app/run.sh"); got != "b#!" {
		t.Errorf("%q", got)
	}
	is(t, c.CopyFS(t.Context(), "/etc/passwd", files), fs.ErrInvalid)
}

// A container that exchanges directories for links to the host all the time
// gets nothing out, and nothing of outside in.
func TestCopyIsSafeFromSwappedLinks(t *testing.T) {
	b := newBench(t)
	victim := t.TempDir()
	makeTree(t, victim, "secret")
	c := b.start(t, Spec{}, "sh", "-c", "mkdir /w; while true; do rm -rf /w/x; mkdir /w/x; touch /w/x/secret; rm -rf /w/x; ln -s "+victim+" /w/x; rm /w/x; ln -s ../../../../../.."+victim+" /w/x; done")
	eventually(t, "/w", func() bool { _, err := c.Stat(t.Context(), "/w"); return err == nil })
	in := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "x/secret"}, tar.Header{Typeflag: tar.TypeReg, Name: "x/planted"}, tar.Header{Typeflag: tar.TypeDir, Name: "x/dir/", Mode: 0o777})
	out := t.TempDir()
	for range 150 {
		c.Extract(t.Context(), "/w", bytes.NewReader(in.Bytes()), nil) // errors are to be expected
		c.Extract(t.Context(), "/w/x", bytes.NewReader(in.Bytes()), &ExtractOptions{Overwrite: true})
		if r, _, err := c.Archive(t.Context(), "/w/x/"); err == nil {
			b, _ := io.ReadAll(r)
			if bytes.Contains(b, []byte("\x00secret\x00")) || bytes.Contains(b, []byte(victim[1:])) {
				t.Fatal("a file of the host is in the archive")
			}
			r.Close()
		}
		c.CopyFrom(t.Context(), "/w/x", out, nil)
	}
	if got := treeOf(t, os.DirFS(out), "."); strings.Contains(got, "=secret") {
		t.Errorf("copied out: %s", got)
	}
	if got := treeOf(t, os.DirFS(victim), "."); got != "secret=secret" {
		t.Errorf("the host's directory holds %s", got)
	}
}

// A canceled copy ends, and lets the container go.
func TestCopyEnds(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "pause")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- c.Extract(ctx, "/tmp", r, nil) }()
	tw := tar.NewWriter(w)
	tw.WriteHeader(&tar.Header{Name: "a", Size: 1 << 20, Mode: 0o644, Typeflag: tar.TypeReg})
	w.Write(make([]byte, 600)) // somebody reads: the container is held
	cancel()
	w.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A copy that fails early leaves nobody behind who still reads it.
func TestCopyFailsEarly(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "pause")
	src, other := t.TempDir(), t.TempDir()
	makeTree(t, src, "s/")
	if err := os.WriteFile(filepath.Join(src, "s", "big"), make([]byte, 32<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	makeTree(t, other, "d/s")
	if _, err := c.CopyTo(t.Context(), other+"/d", "/d", nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		n, err := c.CopyTo(t.Context(), src+"/s", "/d", nil)
		is(t, err, fs.ErrInvalid)
		if n >= 32<<20 {
			t.Errorf("%d bytes were copied", n)
		}
	}
}
