package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

const (
	maxPacket = 8 << 10 // most messages are far shorter, and every receiver needs a buffer of that size
	maxFiles  = 16
	backlog   = 128      // clients that may knock at once
	maxBody   = 16 << 20 // of a message in a memfd
)

// Conn is one connection. Send and Receive may run at the same time, but
// neither twice.
type Conn struct {
	c *net.UnixConn
}

// envelope wraps every message. Long says that the first descriptor holds the
// body.
type envelope struct {
	Long bool            `json:"long,omitempty"`
	Body json.RawMessage `json:"body,omitempty"`
}

// FromFile takes over a connected socket's descriptor.
func FromFile(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor %s is no UNIX socket", f.Name())
	}
	return &Conn{uc}, nil
}

// Pair makes two connected ends; the second is a file to pass to a child.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	c, err := FromFile(os.NewFile(uintptr(fds[0]), "shim"))
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "program"), nil
}

// short gives a path that fits into the 107 bytes of an AF_UNIX address: by
// the directory's descriptor when it is too long itself.
func short(path string) (string, func(), error) {
	if len(path) < 107 {
		return path, func() {}, nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path)), func() { d.Close() }, nil
}

// Dial connects to a listening shim.
func Dial(path string) (*Conn, error) {
	p, done, err := short(path)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: p, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Listener accepts connections.
type Listener struct{ l *net.UnixListener }

// Listen makes the socket, mode 0600, over what a killed owner left there.
func Listen(path string) (*Listener, error) {
	os.Remove(path)
	p, done, err := short(path)
	if err != nil {
		return nil, err
	}
	defer done()
	// By hand: package net would read the system's backlog limit through a
	// buffer of 64 KiB that every idle supervisor then keeps.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // FileListener has a copy
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p}); err != nil {
		return nil, &os.PathError{Op: "bind", Path: path, Err: err}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // by the short name it could be another's
	return &Listener{l.(*net.UnixListener)}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (*Conn, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Close ends Accept; the socket's file stays.
func (l *Listener) Close() error { return l.l.Close() }

// Close closes the connection; a blocked Receive returns.
func (c *Conn) Close() error { return c.c.Close() }

// Send sends v and copies of the files.
func (c *Conn) Send(v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	env := envelope{Body: body}
	if len(body) > maxPacket {
		mem, err := memfile(body)
		if err != nil {
			return err
		}
		defer mem.Close()
		env = envelope{Long: true}
		files = append([]*os.File{mem}, files...)
	}
	packet, err := json.Marshal(env)
	if err != nil {
		return err
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			rc, err := f.SyscallConn() // Fd() would set the file to blocking mode
			if err != nil {
				return err
			}
			rc.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.c.WriteMsgUnix(packet, oob, nil)
	return err
}

func memfile(body []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "message")
	if _, err := f.Write(body); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Receive waits for a message, decodes it into v and returns its files, which
// the caller closes. A closed connection is io.EOF.
func (c *Conn) Receive(v any) ([]*os.File, error) {
	buf := make([]byte, maxPacket+4096)
	oob := make([]byte, unix.CmsgSpace(4*(maxFiles+1)))
	n, oobn, flags, _, err := c.c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	files, err := received(oob[:oobn])
	if err == nil && n == 0 && len(files) == 0 {
		return nil, io.EOF
	}
	if err == nil && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
		err = errors.New("message or its descriptors were cut short")
	}
	if err == nil {
		files, err = c.unpack(buf[:n], files, v)
	}
	if err != nil {
		CloseAll(files)
		return nil, err
	}
	return files, nil
}

func (c *Conn) unpack(packet []byte, files []*os.File, v any) ([]*os.File, error) {
	var env envelope
	if err := json.Unmarshal(packet, &env); err != nil {
		return files, fmt.Errorf("message is no JSON: %w", err)
	}
	if env.Long {
		if len(files) == 0 {
			return files, errors.New("a long message came without its body")
		}
		body, err := io.ReadAll(io.NewSectionReader(files[0], 0, maxBody))
		files[0].Close()
		files = files[1:]
		if err != nil {
			return files, err
		}
		env.Body = body
	}
	return files, json.Unmarshal(env.Body, v)
}

func received(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd) // Go receives with MSG_CMSG_CLOEXEC already
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes files, nil ones too.
func CloseAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// IsPipe reports whether f is a pipe: nothing else of a client may reach a
// container, since a file can be reopened for writing through /proc and a
// terminal allows input to be faked.
func IsPipe(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeNamedPipe == 0 {
		return fault.Invalid("stream %s is no pipe", f.Name())
	}
	return nil
}

// GrowPipe lets a pipe hold as much as it may without privileges, 1 MiB.
// Where that is refused it stays as it is.
func GrowPipe(f *os.File) {
	if rc, err := f.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
	}
}
