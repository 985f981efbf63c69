package archive

import (
	"io"
	"sync"
)

const (
	chunkSize  = 256 << 10 // large enough to make a hand-over cheap
	chunkCount = 8         // 2 MiB between the decompressor and its reader
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

type chunk struct {
	buf *[chunkSize]byte
	n   int
	err error // after the bytes
}

// pipe reads ahead in a goroutine of its own, so that decompressing and
// hashing run beside what consumes the result. Read and Close are for one
// goroutine.
type pipe struct {
	ch   chan chunk
	stop chan struct{}
	once sync.Once
	cur  chunk
	off  int
}

// readAhead starts reading src until it ends, fails, or Close. tee, when not
// nil, gets every byte in the reading goroutine.
func readAhead(src io.Reader, tee io.Writer, done func()) *pipe {
	p := &pipe{ch: make(chan chunk, chunkCount-2), stop: make(chan struct{})}
	go func() {
		defer close(p.ch)
		if done != nil {
			defer done()
		}
		for {
			c := fill(src)
			if tee != nil && c.n > 0 {
				if _, err := tee.Write(c.buf[:c.n]); err != nil {
					c.err = err
				}
			}
			select {
			case p.ch <- c:
			case <-p.stop:
				chunks.Put(c.buf)
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	return p
}

// fill reads one chunk. It does not wait for a full one once the source has
// given something and then fails.
func fill(src io.Reader) chunk {
	c := chunk{buf: chunks.Get().(*[chunkSize]byte)}
	for c.n < chunkSize && c.err == nil {
		var n int
		n, c.err = src.Read(c.buf[c.n:])
		c.n += n
	}
	return c
}

func (p *pipe) Read(b []byte) (int, error) {
	for p.cur.buf == nil || p.off == p.cur.n {
		if p.cur.err != nil {
			return 0, p.cur.err
		}
		if p.cur.buf != nil {
			chunks.Put(p.cur.buf)
			p.cur = chunk{}
		}
		select {
		case <-p.stop:
			return 0, io.ErrClosedPipe
		default:
		}
		c, ok := <-p.ch
		if !ok {
			return 0, io.ErrClosedPipe
		}
		p.cur, p.off = c, 0
	}
	n := copy(b, p.cur.buf[p.off:p.cur.n])
	p.off += n
	return n, nil
}

// Close tells the goroutine to end. It does not wait for a Read of the source
// that is under way: such a Read may take as long as the network does.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.stop) })
	return nil
}
