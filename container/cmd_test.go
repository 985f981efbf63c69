package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCmd(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name                     string
		spec                     Spec
		arg                      []string
		stdin                    string
		stdout, stderr           string
		code, signal             int
		withStdin, stdoutIsFirst bool
	}{
		{name: "clean", arg: []string{"echo", "-n", "a"}, stdout: "a"},
		{name: "code", arg: []string{"sh", "-c", "echo a; echo b >&2; exit 7"}, stdout: "a\n", stderr: "b\n", code: 7},
		{name: "stdin", arg: []string{"cat"}, stdin: "hello\x00", withStdin: true, stdout: "hello\x00"},
		{name: "empty stdin", arg: []string{"stdin-count"}, withStdin: true, stdout: "0 0\n"},
		{name: "no stdin is /dev/null", arg: []string{"sh", "-c", "stdin-count; readlink /proc/self/fd/0"}, stdout: "0 0\n/dev/null\n"},
		{name: "with a reaper", spec: Spec{Init: true}, arg: []string{"sh", "-c", "kill -KILL $$"}, code: 137},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := b.command(t, tt.spec, tt.arg...)
			if tt.withStdin {
				c.Stdin = strings.NewReader(tt.stdin)
			}
			out, err := c.Output()
			if string(out) != tt.stdout {
				t.Errorf("stdout %q, want %q", out, tt.stdout)
			}
			if Code(err) != tt.code {
				t.Fatalf("error %v, want code %d", err, tt.code)
			}
			if tt.code == 0 {
				return
			}
			var exit *ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("error %v is no ExitError", err)
			}
			if string(exit.Stderr) != tt.stderr || exit.Signal != tt.signal {
				t.Errorf("stderr %q signal %d; want %q, %d", exit.Stderr, exit.Signal, tt.stderr, tt.signal)
			}
		})
	}
	infos, err := b.List(t.Context(), nil)
	if err != nil {
		t.Error(err)
	}
	for _, i := range infos {
		if i.Status == Exited {
			t.Errorf("a Cmd's container was left: %+v", i)
		}
	}
}

func TestCmdMisuse(t *testing.T) {
	b := newBench(t)
	c := b.command(t, Spec{}, "true")
	if c.Wait() == nil {
		t.Error("Wait before Start succeeded")
	}
	c.Stdout = io.Discard
	if _, err := c.Output(); err == nil {
		t.Error("Output with Stdout set succeeded")
	}
	if _, err := c.CombinedOutput(); err == nil {
		t.Error("CombinedOutput with Stdout set succeeded")
	}
	if err := c.Run(); err != nil {
		t.Error(err)
	}
	if c.Start() == nil {
		t.Error("a Cmd started twice")
	}
	missing := b.command(t, Spec{Image: "nosuch"}, "true").Run()
	is(t, missing, fs.ErrNotExist)
	says(t, missing, "nosuch")
	if Code(missing) != 125 {
		t.Errorf("code %d of a missing image", Code(missing))
	}
}

func TestCmdKeep(t *testing.T) {
	b := newBench(t)
	c := b.command(t, Spec{Name: "kept", Labels: map[string]string{"x": "y"}}, "sh", "-c", "echo out; exit 5")
	c.Keep = true
	err := c.Run()
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 5 {
		t.Fatal(err)
	}
	info := inspect(t, c.Container)
	if info.Status != Exited || info.Exit.Code != 5 || info.Labels[LabelCmd] != "true" || info.Labels["x"] != "y" {
		t.Errorf("kept: %+v %+v", info, info.Exit)
	}
	// It can be started again, and still is owned.
	if err := c.Container.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, c.Container); got.Code != 5 {
		t.Errorf("second run: %+v", got)
	}
	if err := c.Container.Remove(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestCmdCancel(t *testing.T) {
	b := newBench(t)
	t.Run("kills", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := b.Command(ctx, "box", "pause")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cancel()
		err := c.Wait()
		is(t, err, context.Canceled)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 137 {
			t.Errorf("error %v is no ExitError of 137", err)
		}
	})
	t.Run("by the caller's way", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := new(collector)
		c := b.Command(ctx, "box", "trap", "-x", "0")
		c.Stdout = out
		c.Cancel = func() error { return c.Container.Signal(context.Background(), "TERM") }
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		out.await(t, "ready")
		cancel()
		is(t, c.Wait(), context.Canceled)
	})
	t.Run("before the start", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		is(t, b.Command(ctx, "box", "true").Run(), context.Canceled)
	})
	t.Run("during the start", func(t *testing.T) {
		for i := range 8 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*4)*time.Millisecond)
			if err := b.Command(ctx, "box", "pause").Run(); err == nil {
				t.Error("no error")
			}
			cancel()
		}
		if infos, err := b.List(t.Context(), nil); err != nil || len(infos) != 0 {
			t.Errorf("left: %v, %v", infos, err)
		}
	})
}

// zeros is an endless reader of pseudo-random bytes, the same for one seed.
func stream(seed uint64, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(seed)}), size)
}

func TestBigStreams(t *testing.T) {
	b := newBench(t)
	const size = 64 << 20
	want := sha256.New()
	io.Copy(want, stream(1, size))
	check := func(t *testing.T, run func(in io.Reader, out io.Writer) error) {
		got := sha256.New()
		if err := run(stream(1, size), got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("the bytes that came back are not those that went in")
		}
	}
	t.Run("cmd", func(t *testing.T) {
		check(t, func(in io.Reader, out io.Writer) error {
			c := b.command(t, Spec{Log: Log{Driver: "none"}}, "cat")
			c.Stdin, c.Stdout = in, out
			return c.Run()
		})
	})
	t.Run("exec", func(t *testing.T) {
		ct := b.start(t, Spec{}, "pause")
		check(t, func(in io.Reader, out io.Writer) error {
			x := ct.Command(t.Context(), "cat")
			x.Stdin, x.Stdout = in, out
			return x.Run()
		})
	})
	t.Run("files", func(t *testing.T) {
		path := t.TempDir() + "/in"
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(f, stream(1, size))
		f.Seek(0, io.SeekStart)
		defer f.Close()
		out, err := os.Create(path + "out")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		check(t, func(_ io.Reader, h io.Writer) error {
			c := b.command(t, Spec{Log: Log{Driver: "none"}}, "cat")
			c.Stdin, c.Stdout = f, out
			err := c.Run()
			out.Seek(0, io.SeekStart)
			io.Copy(h, out)
			return err
		})
	})
}

// failing accepts some bytes, then fails.
type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestReaderThatFails(t *testing.T) {
	b := newBench(t)
	c := b.command(t, Spec{Log: Log{Driver: "none"}}, "spew", "100000")
	c.Stdout = &failing{left: 1 << 16}
	is(t, c.Run(), errFull) // the container goes on without its reader
	ct := b.start(t, Spec{}, "pause")
	x := ct.Command(t.Context(), "spew", "100000")
	x.Stdout = &failing{left: 1 << 16}
	if err := x.Run(); err == nil { // a write of the process itself failed
		t.Error("no error")
	}
}

// A process that does not read its input must not keep Wait waiting.
func TestInputNobodyReads(t *testing.T) {
	b := newBench(t)
	c := b.command(t, Spec{}, "true")
	c.Stdin = stream(2, 16<<20)
	if err := c.Run(); err != nil {
		t.Error(err)
	}
	r, w := io.Pipe() // never written to
	defer w.Close()
	c = b.command(t, Spec{}, "true")
	c.Stdin = r
	if err := c.Run(); err != nil {
		t.Error(err)
	}
}

func TestWaitDelay(t *testing.T) {
	b := newBench(t)
	ct := b.start(t, Spec{}, "pause")
	x := ct.Command(t.Context(), "sh", "-c", "sleep 1000 & echo done")
	out := new(collector)
	x.Stdout, x.WaitDelay = out, 100*time.Millisecond
	is(t, x.Run(), exec.ErrWaitDelay)
	if out.String() != "done\n" {
		t.Errorf("output %q", out)
	}
}

// A reader slower than everything else still gets all, also what was in the
// pipes when the container ended.
func TestSlowReaderLosesNothing(t *testing.T) {
	b := newBench(t)
	const lines = 40000 // 4 MB: more than the pipes hold
	c := b.create(t, Spec{Log: Log{Driver: "none"}}, "spew", fmt.Sprint(lines))
	r, w := io.Pipe()
	a, err := c.StartAttached(t.Context(), &IO{Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := a.Wait(t.Context())
		w.Close()
		done <- err
	}()
	eventually(t, "the process has written all it can", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", inspect(t, c).Pid))
		return slices.ContainsFunc(threads, func(f string) bool {
			name, err := os.ReadFile(f)
			return err == nil && strings.Contains(string(name), "pipe_write")
		})
	})
	time.Sleep(2500 * time.Millisecond) // longer than a stream may be quiet after the end
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := readLines(string(data)); len(got) != lines || !strings.HasPrefix(got[len(got)-1], fmt.Sprint(lines)+" ") {
		t.Errorf("%d lines came, the last %q", len(got), got[len(got)-1])
	}
}

// A client that stopped reading must not keep anybody from ending the
// container.
func TestStopDespiteStuckReader(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "spew", "1000000")
	r, w := io.Pipe() // never read
	a, err := c.StartAttached(t.Context(), &IO{Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), &RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	r.Close()
	a.Wait(t.Context())
}
