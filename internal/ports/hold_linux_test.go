package ports

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"golang.org/x/sys/unix"
)

func hold(t testing.TB, wants ...Want) *Held {
	t.Helper()
	testenv.Root(t)
	h, err := Hold(t.Context(), wants)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// other starts a process that holds a port, and returns its pid and the number.
func other(t *testing.T, protocol string, port uint16) (int, uint16) {
	t.Helper()
	cmd := testenv.ChildCommand(t, "hold", step.Plan{}, protocol, strconv.Itoa(int(port)))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
	if err != nil {
		t.Fatalf("child said %q", line)
	}
	return cmd.Process.Pid, uint16(n)
}

func TestConflictNamesHolder(t *testing.T) {
	testenv.Root(t)
	for _, protocol := range []string{"tcp", "udp"} {
		pid, port := other(t, protocol, 0)
		for _, host := range []netip.Addr{{}, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::")} {
			_, err := Hold(t.Context(), []Want{{Protocol: protocol}, {Protocol: protocol, Host: host, Port: port}})
			if !errors.Is(err, fs.ErrExist) || !errors.Is(err, fault.ErrInUse) {
				t.Fatalf("%s at %v: %v", protocol, host, err)
			}
			var c *Conflict
			if !errors.As(err, &c) || c.Port != port {
				t.Fatalf("%#v", c)
			}
			if c.PID != pid { // kernels before 6.8 do not show a TCP socket that does not listen
				if protocol == "udp" || newKernel() {
					t.Errorf("%s at %v: holder %d, want %d: %v", protocol, host, c.PID, pid, err)
				}
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Hold(t.Context(), []Want{{Protocol: "tcp", Port: netip.MustParseAddrPort(l.Addr().String()).Port()}})
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("listening holder: %v", err)
	}
}

func newKernel() bool {
	var u unix.Utsname
	unix.Uname(&u)
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return a > 6 || a == 6 && b >= 8
}

// listens reports whether a program in another process, with SO_REUSEADDR as
// all Go programs, could listen there.
func listens(t *testing.T, network, address string) bool {
	t.Helper()
	r := testenv.RunChild(t, "listen", step.Plan{}, network, address)
	if r.Code != 0 && r.Code != 3 {
		t.Fatalf("%+v", r)
	}
	return r.Code == 0
}

// refused checks that nobody else gets the port in the state that h is in.
func refused(t *testing.T, state string, port uint16) {
	t.Helper()
	p := ":" + strconv.Itoa(int(port))
	for network, hosts := range map[string][]string{"tcp4": {"", "127.0.0.1", "127.0.0.9"}, "tcp6": {"", "[::1]"}} {
		for _, host := range hosts {
			if listens(t, network, host+p) {
				t.Errorf("%s: another process could listen at %s %s%s", state, network, host, p)
			}
		}
	}
	if h, err := Hold(context.Background(), []Want{{Protocol: "tcp", Port: port}}); err == nil {
		h.Close()
		t.Errorf("%s: a second Hold succeeded", state)
	}
}

func TestReservationIsExclusive(t *testing.T) {
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	port := h.Bound()[0].HostPort
	refused(t, "held", port)
	target := echo(t)
	for range 2 {
		if err := h.Serve(to(target)); err != nil {
			t.Fatal(err)
		}
		refused(t, "serving", port)
		c := dial(t, "127.0.0.1", port)
		say(t, c, "hello")
		if err := h.Pause(); err != nil {
			t.Fatal(err)
		}
		if _, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(port))); err == nil {
			t.Error("a paused port accepts")
		}
		say(t, c, "still there") // and so the second Serve has a connection in its way
		refused(t, "paused", port)
	}
	h.Close()
	if !listens(t, "tcp", ":"+strconv.Itoa(int(port))) {
		t.Error("the port is not free after Close")
	}
}

// TestOldConnections checks that neither open nor closed connections of an
// earlier supervisor are in the way of a new one, and that the reservation made
// in spite of them is as exclusive.
func TestOldConnections(t *testing.T) {
	target := echo(t)
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	port := h.Bound()[0].HostPort
	if err := h.Serve(to(target)); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c := dial(t, "127.0.0.1", port)
		say(t, c, "bye") // the target ends this connection first, so TIME_WAIT is on our side
		c.Close()
	}
	if !timeWait(port) {
		t.Fatal("the test made no connection in TIME_WAIT")
	}
	h.Close()
	again := hold(t, Want{Protocol: "tcp", Port: port, Container: 80})
	refused(t, "held over old connections", port)
	if err := again.Serve(to(target)); err != nil {
		t.Fatal(err)
	}
	say(t, dial(t, "::1", port), "hello")
}

// timeWait waits until a closed connection of the port is in TIME_WAIT.
func timeWait(port uint16) bool {
	want := ":" + strings.ToUpper(strconv.FormatUint(uint64(port), 16))
	for range 1000 {
		for _, f := range []string{"tcp", "tcp6"} {
			data, _ := os.ReadFile("/proc/thread-self/net/" + f)
			for line := range strings.Lines(string(data)) {
				if w := strings.Fields(line); len(w) > 3 && strings.HasSuffix(w[1], want) && w[3] == "06" {
					return true
				}
			}
		}
	}
	return false
}

// TestContention has processes fight for a port at which old connections are,
// which makes all of them take the long way.
func TestContention(t *testing.T) {
	target := echo(t)
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	port := h.Bound()[0].HostPort
	if err := h.Serve(to(target)); err != nil {
		t.Fatal(err)
	}
	c := dial(t, "127.0.0.1", port)
	say(t, c, "bye")
	c.Close()
	timeWait(port)
	h.Close()
	proof := filepath.Join(testenv.Dir(t), "alone")
	start, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer start.Close()
	var all [4]*exec.Cmd
	var outs [len(all)]strings.Builder
	for i := range all {
		all[i] = testenv.ChildCommand(t, "contend", step.Plan{}, strconv.Itoa(int(port)), proof)
		all[i].Stdin, all[i].Stdout, all[i].Stderr = start, &outs[i], &outs[i]
		if err := all[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	held := 0
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, outs[i].String())
		}
		n, _ := strconv.Atoi(strings.TrimSpace(outs[i].String()))
		held += n
	}
	if held == 0 {
		t.Error("nobody got the port even once")
	}
}

// TestOneOfTwoWins has two sockets in the worst state, both bound with
// SO_REUSEADDR, go on in every order.
func TestOneOfTwoWins(t *testing.T) {
	testenv.Root(t)
	for _, dual := range []string{"", "127.0.0.1"} {
		var host netip.Addr
		if dual != "" {
			host = netip.MustParseAddr(dual)
		}
		port, err := pick("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		var fds [2]int
		for i := range fds {
			fd, sa, err := socket("tcp", []netip.Addr{host, {}}[i], port)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := errors.Join(setReuse(fd, 1), unix.Bind(fd, sa)); err != nil {
				t.Fatal(err)
			}
			fds[i] = fd
		}
		if err := errors.Join(unix.Listen(fds[0], 0), unlisten(fds[0])); err != nil {
			t.Error(err)
		}
		if err := unix.Listen(fds[1], 0); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("the second got the port too: %v", err)
		}
		unix.Close(fds[1])
		if !host.IsValid() {
			refused(t, "won", port)
		}
	}
}

func TestNumbers(t *testing.T) {
	h := hold(t,
		Want{Protocol: "tcp", Group: 1, Container: 53}, Want{Protocol: "udp", Group: 1, Container: 53},
		Want{Protocol: "tcp", Port: 8000, PortEnd: 8002}, Want{Protocol: "tcp", Port: 8000, PortEnd: 8002},
		Want{Protocol: "udp", Port: 8000}, Want{Protocol: "tcp", Port: 8001},
		Want{Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.1"), Port: 9000},
		Want{Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.2"), Port: 9000},
		Want{Protocol: "tcp", Host: netip.MustParseAddr("::1"), Port: 9000},
	)
	b := h.Bound()
	if b[0].HostPort == 0 || b[0].HostPort != b[1].HostPort {
		t.Errorf("group: %v %v", b[0], b[1])
	}
	if b[2].HostPort != 8000 || b[3].HostPort != 8002 {
		t.Errorf("range: %v %v", b[2], b[3])
	}
	_, err := Hold(t.Context(), []Want{{Protocol: "tcp", Port: 8000, PortEnd: 8002}})
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "8000/tcp to 8002") {
		t.Errorf("full range: %v", err)
	}
	_, err = Hold(t.Context(), []Want{{Protocol: "tcp", Port: 7000}, {Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.1"), Port: 7000}})
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("published twice: %v", err)
	}
	if !listens(t, "tcp", ":7000") {
		t.Error("a failed Hold kept a port")
	}
}

func TestErrors(t *testing.T) {
	testenv.Root(t)
	for _, w := range []Want{
		{Protocol: "icmp", Port: 1}, {Protocol: "tcp", Port: 5, PortEnd: 4}, {Protocol: "tcp", PortEnd: 4},
		{Protocol: "tcp", Host: netip.MustParseAddr("192.0.2.1"), Port: 80},
	} {
		if _, err := Hold(t.Context(), []Want{w}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes, and its lack of rights
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := Hold(t.Context(), []Want{{Protocol: "tcp", Port: 80}})
		done <- err
	}()
	if err := <-done; !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "80/tcp") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Hold(ctx, []Want{{Protocol: "tcp"}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestIPv6Off has no IPv6 address on any interface.
func TestIPv6Off(t *testing.T) {
	testenv.Root(t)
	const file = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		t.Skip("this kernel has no IPv6 to turn off: ", err)
	}
	defer os.WriteFile(file, []byte("0"), 0)
	h := hold(t, Want{Protocol: "tcp", Container: 80})
	if err := h.Serve(to(echo(t))); err != nil {
		t.Fatal(err)
	}
	say(t, dial(t, "127.0.0.1", h.Bound()[0].HostPort), "hello")
	if _, err := Hold(t.Context(), []Want{{Protocol: "tcp", Host: netip.MustParseAddr("::1")}}); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

func TestSCTP(t *testing.T) {
	h := hold(t, Want{Protocol: "sctp", Port: 3868}, Want{Protocol: "sctp"})
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err == nil {
		unix.Close(fd)
	}
	for _, b := range h.Bound() {
		if b.Held != (err == nil) || b.HostPort == 0 {
			t.Errorf("%+v with a kernel that says %v", b, err)
		}
	}
	if err := h.Serve(to(netip.AddrPort{})); err != nil {
		t.Error(err)
	}
}

func TestManyAreNotHeld(t *testing.T) {
	testenv.Root(t)
	var wants []Want
	for i := range MaxHeld + 1 {
		wants = append(wants, Want{Protocol: "tcp", Port: uint16(20000 + i)})
	}
	h := hold(t, wants...)
	for i, b := range h.Bound() {
		if b.Held || int(b.HostPort) != 20000+i {
			t.Fatalf("%+v", b)
		}
	}
	_, port := other(t, "tcp", 20500)
	if _, err := Hold(t.Context(), wants); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), strconv.Itoa(int(port))) {
		t.Errorf("a taken port among many: %v", err)
	}
}
