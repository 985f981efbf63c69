package ports

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
	"golang.org/x/sys/unix"
)

// inside marks the process that runs the tests in a network namespace of its
// own: all its threads are in there, so what is tested may use any goroutine.
const inside = "AMPHORA_TEST_PORTS_NETNS"

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	if os.Getenv(inside) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, "lo up:", err)
			os.Exit(1)
		}
	}
	testenv.Child("hold", childHold)
	testenv.Child("listen", childListen)
	testenv.Child("contend", childContend)
	testenv.Main(m)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// childHold holds protocol args[0], port args[1], prints the number, and waits
// for its input to end.
func childHold(args []string) int {
	n, _ := strconv.Atoi(args[1])
	h, err := Hold(context.Background(), []Want{{Protocol: args[0], Port: uint16(n)}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer h.Close()
	fmt.Println(h.Bound()[0].HostPort)
	os.Stdin.Read(make([]byte, 1))
	return 0
}

// childListen says whether an ordinary program could listen at the address.
func childListen(args []string) int {
	l, err := net.Listen(args[0], args[1])
	if err == nil {
		l.Close()
		return 0
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return 3
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// childContend tries to hold one port many times, and uses a file to prove
// that it is alone while it does.
func childContend(args []string) int {
	n, _ := strconv.Atoi(args[0])
	os.Stdin.Read(make([]byte, 1)) // all begin together
	won := 0
	for range 300 {
		h, err := Hold(context.Background(), []Want{{Protocol: "tcp", Port: uint16(n)}})
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "two processes hold the port:", err)
			return 1
		}
		f.Close()
		os.Remove(args[1])
		h.Close()
		won++
	}
	fmt.Println(won)
	return 0
}
