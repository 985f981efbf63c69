package archive

import (
	"io"
	"sync"
)

const (
	chunkSize  = 256 << 10 // large enough to make a hand-over cheap
	chunkCount = 8         // 2 MiB between the decompressor and its reader
)

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
	free chan *[chunkSize]byte // read and to be filled again
	stop chan struct{}
	once sync.Once
	cur  chunk
	off  int
}

// readAhead starts reading src until it ends, fails, or Close. tee, when not
// nil, gets every byte in the reading goroutine.
func readAhead(src io.Reader, tee io.Writer, done func()) *pipe {
	p := &pipe{ch: make(chan chunk, chunkCount-2), free: make(chan *[chunkSize]byte, chunkCount), stop: make(chan struct{})}
	go func() {
		defer close(p.ch)
		if done != nil {
			defer done()
		}
		for {
			c := p.fill(src)
			if tee != nil && c.n > 0 {
				if _, err := tee.Write(c.buf[:c.n]); err != nil {
					c.err = err
				}
			}
			select {
			case p.ch <- c:
			case <-p.stop:
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	return p
}

// fill reads one chunk, to the brim unless the source ends or fails.
func (p *pipe) fill(src io.Reader) chunk {
	var c chunk
	select {
	case c.buf = <-p.free:
	default:
		c.buf = new([chunkSize]byte)
	}
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
			p.free <- p.cur.buf // has room for all there are
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
