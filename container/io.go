package container

import (
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
	stdin  *os.File       // our end, for Close
}

// join makes pipes for the streams that are not nil and copies between them.
func join(stdin io.Reader, stdout, stderr io.Writer) (*joints, error) {
	j := &joints{theirs: make([]*os.File, 3)}
	if stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		j.theirs[0], j.stdin = r, w
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
				// Our reader failed: the container's writes must not block.
				r.Close()
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

// wait returns when all output was copied, or, with a positive delay, after
// that: something may hold a pipe open beyond the process's end.
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
