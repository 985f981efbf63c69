package image

import (
	"archive/tar"
	"context"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

// fillFrom stages every file of a directory.
func (sh *shelf) fillFrom(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	sh.zeros = endOfTar // a directory is not truncated
	n := 0
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if n++; n > maxEntries {
			return fault.Invalid("the directory has more than %d files; a layout has a few for each layer", maxEntries)
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		return sh.entry(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: st.Size()}, &patient{ctx, f})
	})
}
