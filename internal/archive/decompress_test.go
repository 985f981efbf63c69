package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// plainSample does not compress away, so that truncation hits its middle.
func plainSample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(64))
	}
	return b
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func zstded(data []byte) []byte {
	e, _ := zstd.NewWriter(nil)
	return e.EncodeAll(data, nil)
}

// bzip2Hello is printf 'hello\n' | bzip2.
var bzip2Hello, _ = base64.StdEncoding.DecodeString("QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi")

func decompressAll(data []byte) ([]byte, Compression, error) {
	r, kind, err := Decompress(bytes.NewReader(data))
	if err != nil {
		return nil, kind, err
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	return out, kind, err
}

func TestDecompress(t *testing.T) {
	sample := plainSample(1 << 20)
	skippable := []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
	for name, c := range map[string]struct {
		in, want []byte
		kind     Compression
	}{
		"gzip":             {gzipped(sample), sample, Gzip},
		"gzip members":     {append(gzipped(sample), gzipped([]byte("more"))...), append(bytes.Clone(sample), "more"...), Gzip},
		"gzip and garbage": {append(gzipped(sample), "garbage"...), sample, Gzip},
		"gzip and zeros":   {append(gzipped(sample), make([]byte, 1<<20)...), sample, Gzip},
		"gzip of nothing":  {gzipped(nil), []byte{}, Gzip},
		"zstd":             {zstded(sample), sample, Zstd},
		"zstd frames":      {append(zstded(sample), zstded([]byte("more"))...), append(bytes.Clone(sample), "more"...), Zstd},
		"zstd skippable":   {append(skippable, zstded(sample)...), sample, Zstd},
		"plain":            {sample, sample, Plain},
		"nothing":          {nil, []byte{}, Plain},
		"one byte":         {[]byte("\x1f"), []byte("\x1f"), Plain},
	} {
		got, kind, err := decompressAll(c.in)
		if err != nil || kind != c.kind || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes of %d, %v, %v", name, len(got), len(c.want), kind, err)
		}
	}
}

func TestDecompressBzip2(t *testing.T) {
	want, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(bzip2Hello)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tail := range []string{"", "garbage after the end", string(bzip2Hello)} {
		got, kind, err := decompressAll(append(bytes.Clone(bzip2Hello), tail...))
		w := string(want)
		if strings.HasPrefix(tail, "BZh") {
			w += w
		}
		if err != nil || kind != Bzip2 || string(got) != w {
			t.Errorf("tail %q: %q, %v, %v", tail, got, kind, err)
		}
	}
}

func TestDecompressTruncated(t *testing.T) {
	sample := plainSample(600 << 10)
	for name, data := range map[string][]byte{"gzip": gzipped(sample), "zstd": zstded(sample), "bzip2": bzip2Hello} {
		for _, n := range []int{3, 9, 11, len(data) / 2, len(data) - 1, len(data) - 5, len(data) - 9} {
			if name == "bzip2" && n <= 3 {
				continue // no magic yet
			}
			if name == "zstd" && n <= 3 {
				continue
			}
			if _, _, err := decompressAll(data[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, len(data), err)
			}
		}
	}
	// A second member that ends early is no garbage.
	if _, _, err := decompressAll(append(gzipped(sample), gzipped(sample)[:1000]...)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("second member: %v", err)
	}
}

func TestDecompressDamaged(t *testing.T) {
	g := gzipped(plainSample(100 << 10))
	g[len(g)-6] ^= 1 // its check sum
	if _, _, err := decompressAll(g); err == nil || !strings.Contains(err.Error(), "gzip") {
		t.Errorf("wrong check sum: %v", err)
	}
	z := zstded(plainSample(100 << 10))
	z[len(z)/2] ^= 0xff
	if _, _, err := decompressAll(z); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("flipped bits: %v", err)
	}
}

func TestDecompressUnsupported(t *testing.T) {
	for name, magic := range map[string]string{"xz": "\xfd7zXZ\x00", "lz4": "\x04\x22\x4d\x18", "lzip": "LZIP\x01"} {
		_, _, err := decompressAll([]byte(magic + strings.Repeat("x", 600)))
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// File names that look like one.
	for _, name := range []string{"BZh9", "LZIP", "]\x00\x00"} {
		block := make([]byte, 1024)
		copy(block, name)
		copy(block[257:], "ustar")
		if _, kind, err := decompressAll(block); kind != Plain || err != nil {
			t.Errorf("tar that starts with %q: %v, %v", name, kind, err)
		}
	}
}

func TestDecompressTee(t *testing.T) {
	sample := plainSample(1 << 20)
	var got bytes.Buffer
	r, _, err := DecompressTee(bytes.NewReader(gzipped(sample)), &got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil || !bytes.Equal(got.Bytes(), sample) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	boom := errors.New("boom")
	r, _, err = DecompressTee(bytes.NewReader(gzipped(sample)), failingWriter{boom})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, boom) {
		t.Errorf("error of the tee: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestDecompressSourceFails(t *testing.T) {
	data := gzipped(plainSample(1 << 20))
	src := io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(fs.ErrPermission))
	r, _, err := Decompress(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if _, _, err := Decompress(iotest.ErrReader(fs.ErrPermission)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("at the start: %v", err)
	}
}

// counted tells how far its reader got.
type counted struct {
	n    chan int
	left int
}

func (c *counted) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), c.left)
	clear(b[:n])
	c.left -= n
	c.n <- n
	return n, nil
}

func TestDecompressIsBoundedAndCloses(t *testing.T) {
	src := &counted{n: make(chan int, 10000), left: 1 << 30}
	r, _, err := Decompress(src)
	if err != nil {
		t.Fatal(err)
	}
	total, idle := 0, false
	for !idle {
		select {
		case n := <-src.n:
			total += n
		case <-time.After(200 * time.Millisecond):
			idle = true
		}
	}
	if limit := (chunkCount + 1) * chunkSize; total > limit {
		t.Errorf("%d bytes were read ahead, the limit is %d", total, limit)
	}
	r.Close()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		// What was handed over already may still be read, once.
		if _, err = io.Copy(io.Discard, r); err == nil {
			t.Error("reading goes on after Close")
		}
	}
}
