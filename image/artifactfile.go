package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
)

// copyOut writes a blob as a file, which gets its name when it is complete and
// right.
func (s *Store) copyOut(ctx context.Context, root *os.Root, name string, d digest.Digest) (err error) {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in, err := s.s.OpenBlob(d)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := fmt.Sprintf("%s.%016x.part", name, rand.Uint64())
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			root.Remove(tmp)
		}
	}()
	if err := copyBlob(f, d, &patient{ctx, in}); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return root.Rename(tmp, name)
}

// memoryBlob is a blob that lies in no file.
func memoryBlob(text string) blobFile { return memory{bytes.NewReader([]byte(text))} }

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
