package run

import (
	"os"
	"sync"

	"github.com/amphora-go/amphora/internal/wire"
)

// output are the pipes through which a command's output comes, both lossless.
type output struct {
	theirs []*os.File // write ends, to hand over; nil without a reader
	ours   []*os.File
	copies sync.WaitGroup
	mu     sync.Mutex // held for each call of f
	f      func(stderr bool, p []byte)
}

func newOutput(f func(stderr bool, p []byte)) (*output, error) {
	o := &output{theirs: make([]*os.File, 2), f: f}
	if f == nil {
		return o, nil
	}
	for i := range o.theirs {
		r, w, err := os.Pipe()
		if err != nil {
			o.close()
			return nil, err
		}
		wire.GrowPipe(r)
		o.theirs[i] = w
		o.ours = append(o.ours, r)
		o.copies.Go(func() { o.copy(i == 1, r) })
	}
	return o, nil
}

func (o *output) copy(stderr bool, r *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			o.mu.Lock()
			o.f(stderr, buf[:n])
			o.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// handed closes the ends that now belong to the container.
func (o *output) handed() {
	wire.CloseAll(o.theirs)
	o.theirs = make([]*os.File, 2)
}

// wait returns when all output was delivered.
func (o *output) wait() {
	o.copies.Wait()
	wire.CloseAll(o.ours)
	o.ours = nil
}

func (o *output) close() {
	o.handed()
	o.wait()
}
