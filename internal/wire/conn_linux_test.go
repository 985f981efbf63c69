package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, f, err := Pair()
	must(t, err)
	b, err = FromFile(f)
	must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

type message struct{ Text string }

func TestMessagesKeepTheirBounds(t *testing.T) {
	a, b := pair(t)
	texts := []string{"", "short", strings.Repeat("x", maxPacket-100), strings.Repeat("y", maxPacket), strings.Repeat("z", 3<<20)}
	go func() {
		for _, text := range texts {
			if err := a.Send(message{text}); err != nil {
				t.Error(err)
			}
		}
		a.Close()
	}()
	for _, text := range texts {
		var m message
		files, err := b.Receive(&m)
		if err != nil || m.Text != text || len(files) != 0 {
			t.Errorf("%d bytes for %d, %d files, %v", len(m.Text), len(text), len(files), err)
		}
	}
	if _, err := b.Receive(new(message)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestFilesTravelInOrder(t *testing.T) {
	a, b := pair(t)
	for _, text := range []string{"short", strings.Repeat("long", maxPacket)} {
		var sent []*os.File
		for i := range 10 {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			must(t, err)
			defer f.Close()
			f.Write([]byte{byte(i)})
			sent = append(sent, f)
		}
		must(t, a.Send(message{text}, sent...))
		var m message
		got, err := b.Receive(&m)
		must(t, err)
		if len(got) != len(sent) || m.Text != text {
			t.Fatalf("%d files, %d bytes", len(got), len(m.Text))
		}
		for i, f := range got {
			buf := make([]byte, 2)
			if n, _ := f.ReadAt(buf, 0); n != 1 || buf[0] != byte(i) {
				t.Errorf("file %d holds %v", i, buf[:n])
			}
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("file %d would be inherited: %v", i, err)
			}
		}
		CloseAll(got)
	}
}

// Whatever comes, no descriptor stays open and nothing panics.
func TestBadMessages(t *testing.T) {
	for name, packet := range map[string]string{"no JSON": "hello", "no body": `{"long":true}`, "another type": `{"body":[1]}`, "too much": strings.Repeat(" ", maxPacket+8192)} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			r, w, err := os.Pipe()
			must(t, err)
			defer r.Close()
			_, _, err = a.c.WriteMsgUnix([]byte(packet), unix.UnixRights(int(w.Fd())), nil)
			must(t, err)
			w.Close()
			var m message
			if _, err := b.Receive(&m); err == nil {
				t.Error("it was taken")
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("its descriptor is still open: %d, %v", n, err)
			}
		})
	}
	a, b := pair(t)
	files := make([]*os.File, maxFiles+4)
	for i := range files {
		files[i] = os.Stdout
	}
	if err := a.Send(message{}, files...); err == nil {
		if _, err := b.Receive(new(message)); err == nil {
			t.Error("more files than there may be were taken")
		}
	}
}

func TestListenAndDial(t *testing.T) {
	for _, dir := range []string{"s", strings.Repeat("long", 40)} {
		dir = filepath.Join(testenv.Dir(t), dir)
		must(t, os.Mkdir(dir, 0o700))
		path := filepath.Join(dir, "0123456789ab")
		if _, err := Dial(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("nobody there: %v", err)
		}
		stale, err := Listen(path)
		must(t, err)
		must(t, stale.Close())
		if _, err := Dial(path); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a socket that somebody left: %v", err)
		}
		l, err := Listen(path)
		must(t, err)
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
		c, err := Dial(path)
		must(t, err)
		s, err := l.Accept()
		must(t, err)
		must(t, c.Send(message{"there"}))
		var m message
		if _, err := s.Receive(&m); err != nil || m.Text != "there" {
			t.Errorf("%+v, %v", m, err)
		}
		for _, f := range []io.Closer{c, s, l} {
			must(t, f.Close())
		}
	}
}

// A closed connection ends a Receive that waits.
func TestCloseEndsReceive(t *testing.T) {
	a, _ := pair(t)
	ended := make(chan error)
	go func() {
		_, err := a.Receive(new(message))
		ended <- err
	}()
	must(t, a.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestIsPipe(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	if err := errors.Join(IsPipe(r), IsPipe(w)); err != nil {
		t.Error(err)
	}
	f, err := os.Open(os.DevNull)
	must(t, err)
	defer f.Close()
	if err := IsPipe(f); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a device: %v", err)
	}
	GrowPipe(w)
	if _, err := w.Write(bytes.Repeat([]byte{1}, 200<<10)); err != nil { // would block for ever in 64 KiB
		t.Error(err)
	}
}
