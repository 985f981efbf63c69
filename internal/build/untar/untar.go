// Package untar reads archives that somebody hands to a build: ADD's local
// ones and contexts that are tars. It knows one compression more than layers
// of images may have.
package untar

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/fault"
)

// ErrNoProgram is what Plain's error Is when only the program that
// decompresses is missing.
var ErrNoProgram = fault.Unsupported("xz archives need the program xz: install it (package xz-utils or xz)")

// memory bounds what xz may use; its strongest preset needs 65 MiB to
// decompress.
const memory = "512MiB"

// Plain finds out by its first bytes what r is compressed with (xz or what
// archive.Decompress knows, or nothing) and returns its plain content.
func Plain(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the start of the stream: %w", err)
	}
	if string(head) == "\xfd7zXZ\x00" {
		return unxz(ctx, br)
	}
	plain, _, err := archive.Decompress(br)
	return plain, err
}

func unxz(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, ErrNoProgram
	}
	ctx, cancel := context.WithCancel(ctx)
	x := &xz{cmd: exec.CommandContext(ctx, path, "--decompress", "--stdout", "--quiet", "--no-warn", "--memlimit-decompress="+memory), cancel: cancel}
	x.cmd.Stdin, x.cmd.Stderr = r, &x.says
	out, err := x.cmd.StdoutPipe()
	if err == nil {
		err = x.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fault.Opaque(fmt.Errorf("start %s: %w", path, err))
	}
	x.out = out
	return x, nil
}

// xz is a running decompression.
type xz struct {
	cmd    *exec.Cmd
	cancel func()
	out    io.Reader
	says   bytes.Buffer
	end    error // that reads give after the end; nil: it is running
}

func (x *xz) Read(p []byte) (int, error) {
	if x.end != nil {
		return 0, x.end
	}
	n, err := x.out.Read(p)
	if n > 0 || err == nil {
		return n, nil // an error comes again
	}
	x.end = err
	werr := x.cmd.Wait()
	x.cancel()
	switch {
	case werr != nil:
		x.end = fault.Invalid("xz stream: %s: %w", strings.TrimSpace(x.says.String()), werr)
	case err != io.EOF:
		x.end = fmt.Errorf("xz stream: %w", err)
	}
	return 0, x.end
}

// Close ends the program if it is still running.
func (x *xz) Close() error {
	if x.end == nil {
		x.end = errors.New("xz stream: closed")
		x.cancel()
		x.cmd.Wait()
	}
	return nil
}
