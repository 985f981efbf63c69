package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a client on a pseudo-terminal.
type terminal struct {
	*client
	keys *os.File
	size func(rows, cols uint16)
}

func (c *cli) onTerminal(args ...string) *terminal {
	t := c.t
	t.Helper()
	// Through the poller, and so without Fd, Close interrupts the read below.
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	control := func(f func(fd int) error) {
		conn, err := master.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if cerr := conn.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
	}
	var n int
	control(func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	term := &terminal{client: &client{cmd: c.command(args...)}, keys: master}
	term.size = func(rows, cols uint16) {
		control(func(fd int) error {
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		})
	}
	term.size(33, 99)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	term.begin(t)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return term
}

func (term *terminal) typed(s string) { term.keys.WriteString(s) }

func testTerminal(t *testing.T, c *cli) {
	term := c.onTerminal("run", "-it", "--name", "tty", "box", "sh")
	term.await(t, "# ")
	term.typed("stty size; tty\n")
	term.await(t, "33 99")
	term.await(t, "/dev/pts/0")
	term.size(44, 111)
	eventually(t, "the new size arrived", func() bool {
		term.typed("stty size\n")
		time.Sleep(20 * time.Millisecond)
		return strings.Contains(term.String(), "44 111")
	})
	term.typed("\x10\x11")
	term.await(t, "read escape sequence")
	if code := term.code(); code != 0 {
		t.Errorf("code %d after the detach keys", code)
	}
	c.is("running", "inspect", "-f", "{{.Status}}", "tty")

	term = c.onTerminal("attach", "--detach-keys", "ctrl-a,x", "tty")
	eventually(t, "input arrives", func() bool {
		term.typed("echo attached-$?\n")
		time.Sleep(20 * time.Millisecond)
		return strings.Contains(term.String(), "attached-0")
	})
	term.typed("\x01x")
	term.await(t, "read escape sequence")
	term.code()

	term = c.onTerminal("exec", "-it", "tty", "sh")
	term.await(t, "# ")
	term.typed("stty size; exit 4\n")
	term.await(t, "33 99")
	if code := term.code(); code != 4 {
		t.Errorf("exec -it: code %d", code)
	}

	term = c.onTerminal("attach", "tty")
	eventually(t, "the shell ended", func() bool {
		term.typed("exit 6\n")
		time.Sleep(20 * time.Millisecond)
		return c.ok("inspect", "-f", "{{.Status}}", "tty") == "exited"
	})
	if code := term.code(); code != 6 {
		t.Errorf("attach: code %d\n%s", code, term)
	}
	c.fails(125, "not a TTY", "run", "--rm", "-it", "box", "true")
}

// testInterruptOnTerminal: ctrl-c is a key of the container's terminal.
func testInterruptOnTerminal(t *testing.T, c *cli) {
	term := c.onTerminal("run", "--rm", "-it", "box", "trap", "-x", "0")
	term.await(t, "ready")
	term.typed("\x03")
	term.await(t, "got 2")
	term.cmd.Process.Signal(syscall.SIGTERM)
	term.await(t, "got 15")
	if code := term.code(); code != 0 {
		t.Errorf("code %d", code)
	}
}

// testHangUp: a client ends with its terminal, the container does not.
func testHangUp(t *testing.T, c *cli) {
	term := c.onTerminal("run", "-it", "--name", "hup", "box", "trap")
	term.await(t, "ready")
	term.keys.Close()
	if code := term.code(); code != 129 {
		t.Errorf("code %d", code)
	}
	eventually(t, "the container got the signal", func() bool { return strings.Contains(c.ok("logs", "hup"), "got 1 ") })
	c.is("running", "inspect", "-f", "{{.Status}}", "hup")
}

// testAttachWithoutTerminal: input and output of a container on pipes.
func testAttachWithoutTerminal(t *testing.T, c *cli) {
	c.ok("run", "-d", "-i", "--name", "pp", "box", "cat")
	attach := c.start("attach", "pp")
	eventually(t, "input comes back", func() bool {
		fmt.Fprintln(attach.in, "over")
		time.Sleep(20 * time.Millisecond)
		return strings.Contains(attach.String(), "over")
	})
	c.ok("kill", "pp")
	if code := attach.code(); code != 137 {
		t.Errorf("code %d\n%s", code, attach)
	}
}
