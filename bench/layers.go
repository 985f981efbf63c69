package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// layer is a gzip-compressed tar on disk.
type layer struct {
	path         string
	digest, diff string // of the file, and of the tar in it
	packed, size int64
}

// imageConfig is what a registry's image says of itself.
func imageConfig(layers []*layer) object {
	diffs := make([]string, len(layers))
	for i, l := range layers {
		diffs[i] = l.diff
	}
	return object{"architecture": runtime.GOARCH, "os": "linux", "config": object{"Cmd": []string{"true"}},
		"rootfs": object{"type": "layers", "diff_ids": diffs}}
}

// makeLayers writes an image like many: programs, libraries, sources, data. It
// is the same on every machine that has the same Go: GOROOT's files and
// numbers from a fixed seed.
func (b *bench) makeLayers() ([]*layer, error) {
	goroot := goRoot()
	contents := []func(*tar.Writer) error{
		func(w *tar.Writer) error { return addTree(w, "usr/local/go/bin", filepath.Join(goroot, "bin")) },
		func(w *tar.Writer) error {
			return addTree(w, "usr/local/go/src/cmd", filepath.Join(goroot, "src", "cmd"))
		},
		func(w *tar.Writer) error {
			return addTree(w, "usr/local/go/src/lib", filepath.Join(goroot, "src"), "cmd")
		},
		func(w *tar.Writer) error { return addTree(w, "usr/local/go/pkg", filepath.Join(goroot, "pkg")) },
		func(w *tar.Writer) error { return addData(w, 40, 1<<20, 1) },
		func(w *tar.Writer) error { return addData(w, 2000, 8<<10, 2) },
	}
	if b.quick {
		contents = contents[4:]
	}
	layers := make([]*layer, len(contents))
	errs := make(chan error)
	slots := make(chan struct{}, runtime.NumCPU())
	for i, content := range contents {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var err error
			layers[i], err = writeLayer(b.site.path(fmt.Sprintf("layer-%d.tar.gz", i)), content)
			errs <- err
		}()
	}
	var err error
	for range contents {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return layers, err
}

func writeLayer(path string, content func(*tar.Writer) error) (*layer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &layer{path: path}
	packed, plain := sha256.New(), sha256.New()
	file := bufio.NewWriterSize(io.MultiWriter(f, packed, (*counter)(&l.packed)), 256<<10)
	z := gzip.NewWriter(file)
	w := tar.NewWriter(io.MultiWriter(z, plain, (*counter)(&l.size)))
	if err := content(w); err != nil {
		return nil, err
	}
	for _, c := range []func() error{w.Close, z.Close, file.Flush, f.Close} {
		if err := c(); err != nil {
			return nil, err
		}
	}
	l.digest, l.diff = fmt.Sprintf("sha256:%x", packed.Sum(nil)), fmt.Sprintf("sha256:%x", plain.Sum(nil))
	return l, nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// addTree adds the files below dir, but for those directories.
func addTree(w *tar.Writer, name, dir string, without ...string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch in := strings.TrimSuffix(name+"/"+filepath.ToSlash(rel), "/."); {
		case d.IsDir():
			for _, skip := range without {
				if rel == skip {
					return fs.SkipDir
				}
			}
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: in + "/", Mode: 0o755})
		case d.Type().IsRegular():
			return addFile(w, in, path, 0o644)
		}
		return nil
	})
}

// addData adds files of words that compress to about half.
func addData(w *tar.Writer, files, size int, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, size)
	for i := range files {
		for j := 0; j < size; j += 8 {
			word := random.Uint64()
			if word%2 == 0 {
				copy(data[j:], "amphora ")
				continue
			}
			for k := range min(8, size-j) {
				data[j+k] = byte(word >> (8 * k))
			}
		}
		name := fmt.Sprintf("srv/data%d/%d/file%d", seed, i%16, i)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}
