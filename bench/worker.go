package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// worker is one of the small programs that use the library, kept running.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

// work starts a program of program/.
func (b *bench) work(name string, args ...string) (*worker, error) {
	return b.workIn(nil, name, args...)
}

// workIn starts it in a network namespace.
func (b *bench) workIn(ns *namespace, name string, args ...string) (*worker, error) {
	cmd := exec.Command(b.site.path("bin", name), args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := ns.start(cmd); err != nil {
		return nil, err
	}
	w := &worker{cmd: cmd, in: in, lines: make(chan string, 1)}
	b.known[cmd.Process.Pid] = true
	b.site.later(func() { w.close() })
	go func() {
		defer close(w.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.lines <- s.Text()
		}
	}()
	return w, nil
}

// ask sends a line and returns the time that the program took, and its answer.
func (w *worker) ask(ctx context.Context, line string) (time.Duration, string, error) {
	if _, err := fmt.Fprintln(w.in, line); err != nil {
		return 0, "", err
	}
	select {
	case <-ctx.Done():
		w.cmd.Process.Kill()
		return 0, "", ctx.Err()
	case answer, ok := <-w.lines:
		if !ok {
			return 0, "", fmt.Errorf("the program %s ended", w.cmd.Path)
		}
		number, text, _ := strings.Cut(answer, " ")
		ns, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, "", fmt.Errorf("%s", text)
		}
		return time.Duration(ns), text, nil
	}
}

// asks makes a sample of one line.
func (w *worker) asks(line string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		took, _, err := w.ask(ctx, line)
		return took, err
	}
}

// cycles makes a sample of the program attach: a namespace is attached to a
// network and detached.
func (w *worker) cycles(network string, spare *namespace) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		on, _, err := w.ask(ctx, "attach "+network+" bench-spare="+spare.path())
		if err != nil {
			return 0, err
		}
		off, _, err := w.ask(ctx, "detach bench-spare")
		return on + off, err
	}
}

// close lets the program end. It is idempotent.
func (w *worker) close() {
	if w.in.Close() == nil {
		w.cmd.Wait()
	}
}
