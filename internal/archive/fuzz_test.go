//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"testing"
)

// FuzzApply unpacks mutated archives in every style, next to a directory that
// must stay as it is.
func FuzzApply(f *testing.F) {
	needRoot(f)
	f.Add(archiveOf(f, dir("d", 0o755), file("d/f", "x"), symlink("l", "/"), hardlink("h", "d/f"), file("d/.wh.x", "")))
	f.Add(archiveOf(f, file("a/../../b", "x").xattr("user.x", "y"), device("n", tar.TypeChar, 1, 3)))
	f.Add(raw(func(b []byte) { b[156] = 'S' }))
	f.Fuzz(func(t *testing.T, data []byte) { applyAll(t, data) })
}

// FuzzApplyEntries makes well-formed archives with hostile entries: two bytes
// choose a type and a name, a third where links lead.
func FuzzApplyEntries(f *testing.F) {
	needRoot(f)
	f.Add([]byte{2, 0, 3, 0, 0x18, 0})
	f.Add([]byte{2, 0, 1, 3, 9, 0x12, 4, 0x18, 0, 6, 0x0a, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		out := t.TempDir() + "/outside"
		names := []string{"a", "b", "a/b", "b/c", "../" + out, out, "a/../../../b", "a/b/c/d", ".", "b/../a"}
		targets := []string{"a", "/", "..", "../..", out, "/proc/self/root" + out, "b/../..", "a/b"}
		var entries []*entry
		for ; len(ops) >= 3 && len(entries) < 30; ops = ops[3:] {
			name := names[int(ops[1])%len(names)]
			switch suffix := ops[1] / 16; suffix {
			case 1:
				name += "/secret"
			case 2:
				name += "/.wh.secret"
			case 3:
				name += "/.wh..wh..opq"
			case 4:
				name += "/sub/f"
			}
			target := targets[int(ops[2])%len(targets)]
			switch ops[0] % 7 {
			case 0, 1:
				entries = append(entries, file(name, "x").mode(0o4777))
			case 2, 3:
				entries = append(entries, symlink(name, target))
			case 4:
				entries = append(entries, hardlink(name, target))
			case 5:
				entries = append(entries, dir(name, 0o777).owner(1, 1))
			case 6:
				entries = append(entries, device(name, tar.TypeFifo, 0, 0))
			}
		}
		for _, e := range entries {
			if e.Typeflag != tar.TypeDir {
				for len(e.Name) > 0 && e.Name[len(e.Name)-1] == '/' {
					e.Name = e.Name[:len(e.Name)-1]
				}
			}
		}
		applyAll(t, archiveOf(t, entries...))
	})
}

func applyAll(t *testing.T, data []byte) {
	for name, opts := range styles() {
		out, unchanged := outsideDir(t)
		root := t.TempDir()
		os.Symlink(out, root+"/planted")
		opts.MaxBytes = 1 << 20
		done, err := Apply(t.Context(), root, bytes.NewReader(data), opts)
		if err == nil && name == "isolated" {
			lower := t.TempDir()
			os.Symlink(out, lower+"/a")
			os.Symlink("/../b", lower+"/c")
			Settle(t.Context(), root, []string{lower}, done)
		}
		var b bytes.Buffer
		Create(t.Context(), &b, root, &CreateOptions{Overlay: opts.Whiteouts.overlay()})
		if bytes.Contains(b.Bytes(), []byte("SECRET")) {
			t.Error("content from outside")
		}
		unchanged()
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(gzipped([]byte("hello")))
	f.Add(zstded([]byte("hello")))
	f.Add(bzip2Hello)
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, kind, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		// A few bytes may stand for very many.
		n, err := io.Copy(io.Discard, io.LimitReader(r, 16<<20))
		if kind == Plain && (err != nil || n != int64(len(data))) {
			t.Errorf("plain stream of %d bytes gave %d, %v", len(data), n, err)
		}
	})
}
