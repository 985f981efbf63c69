//go:build cgo

package reexec

// int amphora_joined(void);
import "C"

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // the cgo constructor that joins namespaces
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Supported says whether this build can start containers.
const Supported = true

func init() {
	if isInit() {
		// libcontainer clears the environment before the hook runs.
		fifo, _ := strconv.Atoi(os.Getenv("_LIBCONTAINER_FIFOFD"))
		logrus.AddHook(&hook{fifo: fifo})
		// Not by the shim: libcontainer's C code would send it some twenty
		// messages more.
		os.Setenv("_LIBCONTAINER_LOGLEVEL", logLevel)
		libcontainer.Init() // never returns
	}
}

func isInit() bool {
	if len(os.Args) != 2 || os.Args[1] != "init" {
		return false
	}
	fd := os.Getenv("_LIBCONTAINER_INITPIPE")
	if fd == "" || os.Getenv("_LIBCONTAINER_SYNCPIPE") == "" {
		return false
	}
	_, err := os.Readlink("/proc/self/fd/" + fd)
	return err == nil
}

// hook installs the filter and binds init's life to the shim's.
type hook struct {
	installed bool
	reaper    *Reaper // the command, if this init stays as its reaper
	fifo      int
	quiet     bool
}

// silence formats every message to nothing.
type silence struct{}

func (silence) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

func (*hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *hook) Fire(e *logrus.Entry) error {
	if !h.quiet {
		// The messages are for this hook alone: encoding some twenty of them,
		// and decoding them in the shim, costs a start a millisecond. Errors
		// take another way.
		h.quiet = true
		logrus.SetFormatter(silence{})
		// The pipe they would go to is closed before the command is executed:
		// one more message then, as for a command that is missing, would have
		// logrus complain on the container's standard error.
		logrus.SetOutput(io.Discard)
	}
	switch {
	case strings.Contains(e.Message, HookCapability):
		e.Message, e.Level = "", logrus.TraceLevel
		h.install()
	case e.Message == MessageInit:
		h.check()
		// Set here and not by the parent: init is made with CLONE_PARENT and
		// changes its user, both of which clear the signal. A killed shim
		// takes its container with it.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			fail()
		}
		if h.reaper != nil {
			reap(h.reaper, h.fifo)
		}
	case e.Message == MessageSetns:
		h.check()
	}
	return nil
}

func (h *hook) check() {
	if !h.installed {
		fail()
	}
}

// install applies the filter on FilterFD. Failing closed is a panic:
// libcontainer reports it to the shim as the reason why init did not start.
func (h *hook) install() {
	f := os.NewFile(FilterFD, "seccomp filter")
	unix.CloseOnExec(FilterFD)
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		panic("read the seccomp filter: " + err.Error())
	}
	orders, err := decode(data)
	if err != nil {
		panic(err.Error())
	}
	if len(orders.Groups) > 0 && C.amphora_joined() != 1 {
		panic("the process is not in its control groups")
	}
	prog := orders.Program
	h.reaper = orders.Reaper
	h.installed = true
	runtime.KeepAlive(f)
	if len(prog) == 0 {
		return
	}
	filter := unix.SockFprog{Len: uint16(len(prog) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&prog[0]))}
	const setModeFilter = 1
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, uintptr(orders.Flags), uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		panic("install the seccomp filter: " + errno.Error())
	}
}

// fail ends the process before it can run anything: there is nobody left to
// report to.
func fail() { syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 255, 0, 0) }
