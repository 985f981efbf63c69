package container

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

// typist is a client at a terminal.
type typist struct {
	in  *io.PipeWriter
	out *collector
}

func newTypist(t *testing.T) (*typist, *IO) {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	k := &typist{in: w, out: new(collector)}
	return k, &IO{Stdin: r, Stdout: k.out}
}

func (k *typist) types(s string) { io.WriteString(k.in, s) }

func TestTerminal(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{Process: Process{TTY: true, Stdin: true, Width: 100, Height: 30}}, "sh")
	k, streams := newTypist(t)
	a, err := c.StartAttached(t.Context(), streams)
	if err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "# ")
	k.types("tty\r")
	k.out.await(t, "tty /dev/pts/0 30 100")
	k.types("echo $TERM\r")
	k.out.await(t, "xterm")
	if err := c.Resize(t.Context(), 71, 23); err != nil {
		t.Fatal(err)
	}
	k.types("stty size\r")
	k.out.await(t, "23 71")
	k.types("echo $?\r")
	k.out.await(t, "0\r\n# ")
	k.types("\x04") // end of input
	exit, err := a.Wait(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if err := c.Resize(t.Context(), 10, 10); err != nil {
		t.Errorf("resize after the end: %v", err)
	}
	if log := logText(t, c); !strings.Contains(log, "23 71\r\n") {
		t.Errorf("log %q", log)
	}
}

func TestTerminalSignals(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{Process: Process{TTY: true, Stdin: true}}, "trap", "-x", "4")
	k, streams := newTypist(t)
	a, err := c.StartAttached(t.Context(), streams)
	if err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "ready")
	k.types("\x03")
	k.out.await(t, "got 2 ")
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if exit, err := a.Wait(t.Context()); err != nil || exit.Code != 4 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	c = b.create(t, Spec{Process: Process{TTY: true, Width: 10, Height: 5}}, "tty", "-w")
	k, streams = newTypist(t)
	if _, err := c.StartAttached(t.Context(), streams); err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "5 10")
	if err := c.Resize(t.Context(), 70, 22); err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "size 22 70")
}

func TestTerminalOfCmdAndExec(t *testing.T) {
	b := newBench(t)
	c := b.command(t, Spec{Process: Process{TTY: true}}, "sh", "-c", "tty; echo err >&2; exit 3")
	out, err := c.Output()
	if Code(err) != 3 || !strings.Contains(string(out), "tty /dev/pts/0") || !strings.Contains(string(out), "err\r\n") {
		t.Errorf("%q, %v", out, err)
	}
	ct := b.start(t, Spec{}, "pause")
	k, streams := newTypist(t)
	x := ct.Command(t.Context(), "tty", "-w")
	x.TTY, x.Stdin, x.Stdout, x.Width, x.Height = true, streams.Stdin, streams.Stdout, 40, 20
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "20 40")
	if err := x.Resize(41, 21); err != nil {
		t.Fatal(err)
	}
	k.out.await(t, "size 21 41")
	k.types("\x03")
	if got := Code(x.Wait()); got != 130 && got != 2 {
		t.Errorf("code %d after Ctrl-C", got)
	}
}

func TestDetachKeys(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name, keys, typed, echoed string
		tty                       bool
	}{
		{"default", "", "a\x10b\x10\x11", "a\x10b", true},
		{"own", "ctrl-a,x", "hello\x01x", "hello", false},
		{"letters", "q", "hel\nq", "hel\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.create(t, Spec{Process: Process{TTY: tt.tty, Stdin: true}}, "sh", "-c", "stty raw; cat")
			k, streams := newTypist(t)
			streams.DetachKeys = tt.keys
			a, err := c.StartAttached(t.Context(), streams)
			if err != nil {
				t.Fatal(err)
			}
			k.types(tt.typed)
			_, err = a.Wait(t.Context())
			is(t, err, ErrDetached)
			if got := inspect(t, c).Status; got != Running {
				t.Errorf("after detaching: %s", got)
			}
			if !tt.tty {
				eventually(t, "what came before the keys arrived", func() bool { return strings.Contains(logText(t, c), tt.echoed) })
			}
		})
	}
	c := b.start(t, Spec{Process: Process{Stdin: true}}, "cat")
	if err := c.Attach(t.Context(), &IO{Stdin: strings.NewReader(""), DetachKeys: "ctrl-"}); err == nil {
		t.Error("bad keys were accepted")
	}
}

func TestKeyReader(t *testing.T) {
	for _, tt := range []struct {
		keys, in, out string
		typed         bool
	}{
		{"", "ab", "ab", false},
		{"\x10\x11", "ab\x10\x11cd", "ab", true},
		{"\x10\x11", "ab\x10c\x10\x10\x11", "ab\x10c\x10", true},
		{"\x10\x11", "ab\x10", "ab\x10", false}, // not completed: it was meant
		{"q", "q", "", true},
	} {
		k := &keyReader{r: iotestOneByte{strings.NewReader(tt.in)}, keys: []byte(tt.keys), typed: make(chan struct{})}
		out, err := io.ReadAll(k)
		typed := false
		select {
		case <-k.typed:
			typed = true
		default:
		}
		if string(out) != tt.out || typed != tt.typed || err != nil {
			t.Errorf("%q after %q: %q %v %v", tt.in, tt.keys, out, typed, err)
		}
	}
}

// iotestOneByte reads as a slow typist types.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestAttach(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Process: Process{Stdin: true}}, "sh", "-c", "echo before; cat")
	eventually(t, "first output", func() bool { return strings.Contains(logText(t, c), "before") })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	clients := make([]*typist, 4)
	ended := make([]error, len(clients))
	for i := range clients {
		k, streams := newTypist(t)
		clients[i] = k
		attach := t.Context()
		if i == 3 {
			attach = ctx
		}
		wg.Go(func() { ended[i] = c.Attach(attach, streams) })
	}
	for i, k := range clients {
		// Everybody types until everybody has seen it: attaching takes its time.
		for j, other := range clients {
			eventually(t, "a client sees what another typed", func() bool {
				k.types("from " + string(rune('a'+i)) + "\n")
				return strings.Contains(other.out.String(), "from "+string(rune('a'+i)))
			})
			if strings.Contains(other.out.String(), "before") {
				t.Errorf("client %d got what was before it", j)
			}
		}
	}
	cancel()
	clients[3].in.Close()
	clients[0].types("still here\n")
	clients[1].out.await(t, "still here")
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, k := range clients {
		k.in.Close()
	}
	wg.Wait()
	for i, err := range ended {
		if i == 3 {
			is(t, err, context.Canceled)
		} else if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

// A client that does not read is dropped; the container goes on.
func TestSlowAttach(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Process: Process{Stdin: true, StdinOnce: true}}, "sh", "-c", "cat; spew 40000; pause")
	r, w := io.Pipe()
	slow := make(chan error, 1)
	go func() { slow <- c.Attach(t.Context(), &IO{Stdout: w}) }()
	in, typed := io.Pipe()
	typing := make(chan error, 1)
	go func() { typing <- c.Attach(t.Context(), &IO{Stdin: in}) }()
	seen := make(chan struct{})
	go func() { // the first byte, and then no more
		r.Read(make([]byte, 1))
		close(seen)
	}()
	for attached := false; !attached; {
		io.WriteString(typed, "x\n")
		select {
		case <-seen:
			attached = true
		default:
		}
	}
	typed.Close() // and now 4 MB
	eventually(t, "the container goes on", func() bool {
		for e := range c.Logs(t.Context(), &LogOptions{Tail: 1}) {
			return strings.HasPrefix(string(e.Line), "40000 ")
		}
		return false
	})
	go io.Copy(io.Discard, r)
	is(t, <-slow, ErrSlow)
	w.Close()
	if got := inspect(t, c).Status; got != Running {
		t.Errorf("status %s", got)
	}
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-typing; err != nil {
		t.Error(err)
	}
}

func TestStdinOnce(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{Process: Process{Stdin: true, StdinOnce: true}}, "stdin-count")
	out := new(collector)
	err := c.Attach(t.Context(), &IO{Stdin: strings.NewReader("one\ntwo\n"), Stdout: out})
	if err != nil && !errors.Is(err, ErrNotRunning) {
		t.Fatal(err)
	}
	if exit := wait(t, c); exit.Code != 0 || strings.TrimSpace(logText(t, c)) != "8 2" {
		t.Errorf("exit %+v, log %q", exit, logText(t, c))
	}
}
