package store

import (
	"context"
	"errors"
	"io"
	"os"
)

// ErrRestart, returned by a reader that follows a blob, says that what it read
// was wrong or given up, and that the content will be there from the beginning
// once more.
var ErrRestart = errors.New("the blob is fetched anew")

// follower reads a blob behind its writer.
type follower struct {
	ctx    context.Context
	in     *Ingest
	f      *os.File
	offset int64
}

// Follow reads the blob from its beginning while it is still being written.
// It returns io.EOF only after the whole content was verified, so that whoever
// read to the end may trust what it read.
func (in *Ingest) Follow(ctx context.Context) (io.ReadCloser, error) {
	f, err := os.Open(in.s.partialPath(in.digest))
	if os.IsNotExist(err) { // renamed already
		f, err = os.Open(in.s.blobPath(in.digest))
	}
	if err != nil {
		return nil, in.s.trouble(err)
	}
	return &follower{ctx: ctx, in: in, f: f}, nil
}

func (r *follower) Read(p []byte) (int, error) {
	for {
		r.in.mu.Lock()
		have, state, change := r.in.offset, r.in.state, r.in.change
		r.in.mu.Unlock()
		if state != nil && state != io.EOF {
			return 0, state
		}
		if r.offset < have {
			n, err := r.f.ReadAt(p[:min(int64(len(p)), have-r.offset)], r.offset)
			r.offset += int64(n)
			if n > 0 {
				return n, nil
			}
			return 0, r.in.s.trouble(err)
		}
		if state == io.EOF {
			return 0, io.EOF
		}
		select {
		case <-change:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

func (r *follower) Close() error { return r.f.Close() }
