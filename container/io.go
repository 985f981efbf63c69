package container

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/wire"
)

// joints are the pipes between this process and a container. The container
// only ever sees pipes: a file or terminal of ours could be reopened, or
// typed into, from inside. Copying between a pipe and a file costs no copy in
// user space where the kernel can splice.
type joints struct {
	theirs []*os.File // ends to hand over: stdin, stdout, stderr; nil for none
	ours   []*os.File
	out    sync.WaitGroup // copies of output

	mu  sync.Mutex // guards err
	err error      // the first failure of a copy of output
}

// same reports whether both are one writer. A type that cannot be compared is
// never the same.
func same(a, b io.Writer) bool {
	defer func() { recover() }()
	return a != nil && a == b
}

// join makes pipes for the streams that are not nil and copies between them.
// If stdout and stderr are the same writer they share a pipe, as in os/exec:
// then one goroutine writes to it, and what a process wrote keeps its order.
func join(stdin io.Reader, stdout, stderr io.Writer) (*joints, error) {
	j := &joints{theirs: make([]*os.File, 3)}
	if stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		j.theirs[0] = r
		j.ours = append(j.ours, w)
		go func() {
			io.Copy(w, stdin)
			w.Close()
		}()
	}
	for i, dst := range []io.Writer{stdout, stderr} {
		if dst == nil {
			continue
		}
		if i == 1 && same(stdout, stderr) {
			j.theirs[2] = j.theirs[1]
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			j.close()
			return nil, err
		}
		wire.GrowPipe(r)
		j.theirs[i+1] = w
		j.ours = append(j.ours, r)
		j.out.Go(func() {
			if _, err := io.Copy(dst, r); err != nil {
				j.fail(err)
				r.Close() // the container's writes must not block
			}
		})
	}
	return j, nil
}

// handed closes the ends that now belong to the container.
func (j *joints) handed() {
	wire.CloseAll(j.theirs)
	j.theirs = make([]*os.File, 3)
}

func (j *joints) fail(err error) {
	if errors.Is(err, os.ErrClosed) {
		return // by us
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
}

// wait returns when all output was copied, or, with a positive delay, after
// that: something may hold a pipe open beyond the process's end. The error is
// that of the first copy that failed.
func (j *joints) wait(delay time.Duration) error {
	done := make(chan struct{})
	go func() { j.out.Wait(); close(done) }()
	var late <-chan time.Time
	if delay > 0 {
		late = time.After(delay)
	}
	var err error
	select {
	case <-done:
	case <-late:
		err = errWaitDelay
	}
	for _, f := range j.ours {
		f.Close()
	}
	<-done
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		err = j.err
	}
	return err
}

// close undoes join.
func (j *joints) close() {
	j.handed()
	for _, f := range j.ours {
		f.Close()
	}
	j.out.Wait()
}
