package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/amphora-go/amphora/internal/fault"
)

// Compression is what a stream is compressed with.
type Compression int

const (
	Plain Compression = iota
	Gzip
	Zstd
	Bzip2
)

func (c Compression) String() string {
	switch c {
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	case Bzip2:
		return "bzip2"
	}
	return "plain"
}

// maxWindow bounds the memory that a zstd frame may ask for. It is the limit
// of the zstd command without --long=31 and what its level 22 needs.
const maxWindow = 128 << 20

// Decompress finds out by its first bytes what r is compressed with (gzip,
// zstd, bzip2 or nothing) and returns its plain content. Decompression runs in
// a goroutine that is at most 2 MiB ahead. A stream that ends early gives an
// error that Is io.ErrUnexpectedEOF; whatever follows the end of a gzip or
// bzip2 stream and is none itself is read and ignored, as gzip and Docker do.
// Formats that are not supported are refused by name, as ErrUnsupported.
//
// r is read to its end when the result is. Closing the result early ends the
// goroutine after the Read of r that is under way, without waiting for it.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	return DecompressTee(r, nil)
}

// DecompressTee is Decompress and gives every plain byte to w as well, in the
// decompressing goroutine: for a digest that is not to slow the reader down.
// All bytes are in w when the result has returned io.EOF.
func DecompressTee(r io.Reader, w io.Writer) (io.ReadCloser, Compression, error) {
	br := bufio.NewReaderSize(r, chunkSize)
	head, err := br.Peek(512)
	if err != nil && err != io.EOF {
		return nil, Plain, fmt.Errorf("reading the start of the stream: %w", err)
	}
	kind, unknown := sniff(head)
	if unknown != "" {
		return nil, Plain, fault.Unsupported("streams compressed with %s are not supported; gzip, zstd, bzip2 and plain tar are", unknown)
	}
	src, done, err := decoder(kind, br)
	if err != nil {
		return nil, kind, fmt.Errorf("%v stream: %w", kind, err)
	}
	return readAhead(&named{src, kind}, w, done), kind, nil
}

// sniff judges the first block. unknown is the name of a format that is known
// by name only.
func sniff(head []byte) (kind Compression, unknown string) {
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("\x1f\x8b"):
		return Gzip, ""
	case starts("\x28\xb5\x2f\xfd"):
		return Zstd, ""
	// A skippable frame (magic 0x184D2A50 to 5F) may come first, pzstd
	// writes one.
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18":
		return Zstd, ""
	case starts("\xfd7zXZ\x00"):
		return Plain, "xz"
	case starts("\x04\x22\x4d\x18"):
		return Plain, "lz4"
	case starts("\x1f\x9d"):
		return Plain, "compress (.Z)"
	// The others could be the start of a file name in a tar header.
	case len(head) >= 512 && bytes.HasPrefix(head[257:], []byte("ustar")):
		return Plain, ""
	case starts("BZh"):
		return Bzip2, ""
	case starts("LZIP"):
		return Plain, "lzip"
	case starts("\x5d\x00\x00"):
		return Plain, "lzma"
	}
	return Plain, ""
}

func decoder(kind Compression, br *bufio.Reader) (io.Reader, func(), error) {
	switch kind {
	case Gzip:
		g, err := newGzip(br)
		return g, nil, err
	case Bzip2:
		return &bzip2Reader{bzip2.NewReader(br), br}, nil, nil
	case Zstd:
		// The pipe is the concurrency: layers are unpacked side by side.
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, early(err)
		}
		return d, d.Close, nil
	}
	return br, nil, nil
}

// early makes the end of a stream in its header an unexpected one.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// named adds the format to errors.
type named struct {
	io.Reader
	kind Compression
}

func (n *named) Read(b []byte) (int, error) {
	c, err := n.Reader.Read(b)
	if err != nil && err != io.EOF && n.kind != Plain {
		err = fmt.Errorf("%v stream: %w", n.kind, err)
	}
	return c, err
}

// gzipReader reads members one by one, so that it can tell garbage after the
// last one from a damaged member.
type gzipReader struct {
	br *bufio.Reader
	z  *gzip.Reader
}

func newGzip(br *bufio.Reader) (*gzipReader, error) {
	z, err := gzip.NewReader(br)
	if err != nil {
		return nil, early(err)
	}
	z.Multistream(false)
	return &gzipReader{br, z}, nil
}

func (g *gzipReader) Read(b []byte) (int, error) {
	for {
		n, err := g.z.Read(b)
		if err == nil || err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		head, err := g.br.Peek(2)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if string(head) != "\x1f\x8b" {
			return 0, drain(g.br)
		}
		if err := g.z.Reset(g.br); err != nil {
			return 0, early(err)
		}
		g.z.Multistream(false)
	}
}

// bzip2Reader ignores what follows the last stream.
type bzip2Reader struct {
	z  io.Reader
	br *bufio.Reader
}

func (r *bzip2Reader) Read(b []byte) (int, error) {
	n, err := r.z.Read(b)
	var s bzip2.StructuralError
	if errors.As(err, &s) && string(s) == "bad magic value in continuation file" {
		if n > 0 {
			return n, nil // the error comes again
		}
		err = drain(r.br)
	}
	return n, err
}

// drain reads to the end, so that whoever hashes the compressed stream has
// seen all of it. It returns io.EOF on success.
func drain(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return io.EOF
}
