package source

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
)

// kept describes the content of a URL that is kept in its directory, in the
// file "content"; itself it is the file "meta.json". The content is replaced
// after the description has been removed and before it is written again: a
// description never belongs to another content.
type kept struct {
	Version     int
	ETag        string
	Disposition string // name, as the server proposes it
	Modified    *time.Time
	Digest      digest.Digest // sha256
	Size        int64
}

const keptVersion = 1

func blob(dir string) string { return filepath.Join(dir, "content") }
func meta(dir string) string { return filepath.Join(dir, "meta.json") }

// load returns what is kept, nil if that is nothing that can be used.
func load(dir string) *kept {
	var k kept
	if !decode(meta(dir), &k) || k.Version != keptVersion || k.Digest.Validate() != nil {
		return nil
	}
	if info, err := os.Stat(blob(dir)); err != nil || info.Size() != k.Size {
		return nil
	}
	return &k
}

// save keeps what r has.
func (k *kept) save(dir string, r io.Reader) error {
	tmp, err := os.CreateTemp(dir, begun)
	if err != nil {
		return fault.Opaque(err)
	}
	defer os.Remove(tmp.Name())
	h := digest.SHA256.Digester()
	k.Version = keptVersion
	k.Size, err = io.Copy(io.MultiWriter(tmp, h.Hash()), r)
	k.Digest = h.Digest()
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	step.At("http.received")
	if err := os.Remove(meta(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	step.At("http.forgotten")
	if err := os.Rename(tmp.Name(), blob(dir)); err != nil {
		return fault.Opaque(err)
	}
	step.At("http.renamed")
	return fault.Opaque(atomicfile.WriteJSON(meta(dir), k, 0o600, false))
}

// is tells whether the content has a digest, by whatever algorithm.
func (k *kept) is(dir string, want digest.Digest) bool {
	if want.Algorithm() == digest.SHA256 {
		return k.Digest == want
	}
	got, err := sum(blob(dir), want.Algorithm())
	return err == nil && got == want
}

func sum(name string, by digest.Algorithm) (digest.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return by.FromReader(f)
}

// forget drops the description of a content that turned out not to have the
// digest that it says.
func forget(dir string, d digest.Digest) {
	if k := load(dir); k != nil && k.Digest == d {
		os.Remove(meta(dir))
	}
}
