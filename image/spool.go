package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// spool keeps a copy of what is read through it and hashes it.
type spool struct {
	ctx  context.Context
	r    io.Reader
	w    io.Writer
	hash hash.Hash

	// After a failure elsewhere the decompressor may still be reading.
	mu   sync.Mutex // guards what follows
	n    int64
	head []byte // its first bytes
	err  error  // of w
}

func (s *spool) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(n)
	s.hash.Write(p[:n])
	if len(s.head) < 8 {
		s.head = append(s.head, p[:min(n, 8)]...)
	}
	if n > 0 {
		if _, s.err = s.w.Write(p[:n]); s.err != nil {
			return n, s.err
		}
	}
	return n, err
}

// cause puts a full disk before whatever the reader made of it.
func (s *spool) cause(of *Store, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return of.s.Trouble(s.err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive is truncated after %d bytes: %w", s.n, err)
	}
	return err
}
