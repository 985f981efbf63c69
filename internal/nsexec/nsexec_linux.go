//go:build cgo

package nsexec

// #include "nsexec_linux.h"
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is the default of Job.Patience.
const patience = 10 * time.Second

// Capabilities are sets of bits, by number.
type Capabilities struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

// Rlimit is a limit by the kernel's number.
type Rlimit struct {
	What       int
	Soft, Hard uint64
}

// Job is a command and all that is true of its process.
type Job struct {
	Init       *os.File // pidfd of a process in the namespaces
	Namespaces int      // CLONE_NEW* to join

	Groups   []string // files to which the process writes "0": tasks of cgroup v1
	Cgroup   *os.File // directory of cgroup v2; nil: none
	OOMScore string   // empty: the supervisor's

	Stdin, Stdout, Stderr *os.File // descriptors of 3 or more; nil: /dev/null

	Keyring       string // session keyring to join
	NoNewPrivs    bool
	Umask         int // -1: the supervisor's
	Rlimits       []Rlimit
	Dir           string // empty: the root
	UID, GID      uint32
	Supplementary []uint32
	Capabilities  Capabilities
	Filter        []byte // of struct sock_filter; empty: unconfined
	FilterFlags   uint

	Paths     []string // where the command may be, in this order
	Args, Env []string

	Trampoline *os.File // of Trampoline

	// Patience bounds the preparation; 0: 10 s. A process of the container can
	// stop one that is being prepared, and the supervisor must go on.
	Patience time.Duration
}

// stages are those of nsexec_linux.h.
var stages = [...]string{"prepare", "fork", "set the OOM score", "join the control groups", "connect the streams", "close descriptors",
	"join the namespaces", "clone", "begin a session", "join the session keyring", "set no_new_privs", "set a limit", "change directory",
	"install the seccomp filter", "drop capabilities of the bounding set", "become the user", "check the working directory",
	"set capabilities", "look for the command", "execute the command"}

// Error says which stage failed. Then nothing runs.
type Error struct {
	Stage int
	Err   error
}

// Stages that callers tell apart.
const (
	Fork   = int(C.STAGE_FORK)   // nothing was begun: it can be done in another way
	Lookup = int(C.STAGE_LOOKUP) // the command
	Exec   = int(C.STAGE_EXEC)   // the command
)

func (e *Error) Error() string { return stages[e.Stage] + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// nullModes are those of /dev/null where there is no stream.
var nullModes = [...]int{os.O_RDONLY, os.O_WRONLY, os.O_WRONLY}

var errKilled = errors.New("the process was killed")

// Start runs the job and returns its process, a child of the caller's, once it
// executes the command. It must run on a thread that does not end.
func Start(j *Job) (*os.Process, error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, &Error{Fork, os.NewSyscallError("mmap", err)}
	}
	c := &child{page: page, report: (*C.struct_report)(unsafe.Pointer(&page[0]))}
	if err := c.fork(j); err != nil {
		unix.Munmap(page)
		return nil, err
	}
	return c.wait(cmp.Or(j.Patience, patience))
}

// Trampoline makes the file that Start executes first. It may serve any number
// of jobs.
func Trampoline() (*os.File, error) {
	fd := C.amphora_trampoline_file()
	if fd < 0 {
		return nil, syscall.Errno(-fd)
	}
	defer unix.Close(int(fd))
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10) // the child puts others at the low ones
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	return os.NewFile(uintptr(high), "trampoline"), nil
}

// child is what Start follows.
type child struct {
	page   []byte
	report *C.struct_report
	pid    int // of the intermediate process
	pidfd  int
}

func (c *child) fork(j *Job) error {
	if len(j.Filter)%8 != 0 || len(j.Filter)/8 > math.MaxUint16 {
		return &Error{Fork, errors.New("the seccomp filter has a bad length")}
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	job := &C.struct_job{report: c.report, cgroup: -1, init: C.int(j.Init.Fd()), namespaces: C.int(j.Namespaces), umask: C.int(j.Umask),
		uid: C.uint32_t(j.UID), gid: C.uint32_t(j.GID), last_cap: C.int(lastCap()), filter_flags: C.uint(j.FilterFlags)}
	job.oom_score, job.keyring, job.cwd = text(&pins, j.OOMScore), text(&pins, j.Keyring), text(&pins, j.Dir)
	job.groups, job.paths = list(&pins, j.Groups), list(&pins, j.Paths)
	job.argv, job.envp = list(&pins, append([]string{"\x01", ""}, j.Args...)), list(&pins, j.Env)
	job.trampoline = C.int(j.Trampoline.Fd())
	if j.Cgroup != nil {
		job.cgroup = C.int(j.Cgroup.Fd())
	}
	for i, f := range []*os.File{j.Stdin, j.Stdout, j.Stderr} {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, nullModes[i], 0)
			if err != nil {
				return &Error{Fork, err}
			}
			defer null.Close()
			f = null
		}
		job.stdio[i] = C.int(f.Fd())
		if job.stdio[i] < 3 {
			return &Error{Fork, fmt.Errorf("stream %d is descriptor %d", i, job.stdio[i])}
		}
	}
	if j.NoNewPrivs {
		job.no_new_privileges = 1
	}
	limits := make([]C.struct_limit, len(j.Rlimits))
	for i, l := range j.Rlimits {
		limits[i] = C.struct_limit{what: C.int32_t(l.What), value: C.struct_rlimit{rlim_cur: C.rlim_t(l.Soft), rlim_max: C.rlim_t(l.Hard)}}
	}
	job.limits, job.limits_count = (*C.struct_limit)(first(&pins, limits)), C.int(len(limits))
	job.supplementary, job.groups_count = (*C.uint32_t)(first(&pins, j.Supplementary)), C.int(len(j.Supplementary))
	job.filter, job.filter_length = first(&pins, j.Filter), C.ushort(len(j.Filter)/8)
	caps := &j.Capabilities
	job.caps = C.struct_capability_sets{bounding: C.uint64_t(caps.Bounding), effective: C.uint64_t(caps.Effective),
		permitted: C.uint64_t(caps.Permitted), inheritable: C.uint64_t(caps.Inheritable), ambient: C.uint64_t(caps.Ambient)}

	var pidfd C.int
	pid := C.amphora_nsexec(job, &pidfd)
	runtime.KeepAlive(j)
	if pid < 0 {
		return &Error{Fork, syscall.Errno(-pid)}
	}
	c.pid, c.pidfd = int(pid), int(pidfd)
	return nil
}

// wait follows the child until the command runs or has failed.
func (c *child) wait(limit time.Duration) (*os.Process, error) {
	if !c.ended(limit) {
		if int(c.report.stage) == Exec && c.report.error == 0 {
			// The kernel reads the command, from a disk that is slow. How that
			// goes is the process's exit status.
			p, err := os.FindProcess(int(c.report.pid))
			go c.reap()
			return p, err
		}
		at := c.stage()
		unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
		go func() {
			kill(int(c.report.pid))
			c.reap()
		}()
		return nil, &Error{at, fmt.Errorf("it took longer than %v; the process was killed", limit)}
	}
	pid, at, errno := int(c.report.pid), c.stage(), syscall.Errno(c.report.error)
	if status := c.reap(); errno == 0 && at == Exec && status.Exited() {
		return os.FindProcess(pid)
	}
	if errno != 0 {
		kill(pid) // it ends by itself
		return nil, &Error{at, errno}
	}
	go kill(pid)
	return nil, &Error{at, errKilled}
}

// ended waits for the intermediate process.
func (c *child) ended(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		left := time.Until(end).Milliseconds()
		fds := []unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, left)))
		if err == nil || err != unix.EINTR {
			return n > 0
		}
	}
}

// stage is what the child did last.
func (c *child) stage() int {
	if s := int(c.report.stage); s > 0 && s < len(stages) {
		return s
	}
	return Fork
}

// reap waits for the intermediate process and lets go of what is shared.
func (c *child) reap() (status syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(c.pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	unix.Close(c.pidfd)
	unix.Munmap(c.page)
	return status
}

// kill ends and reaps a child; 0 is none.
func kill(pid int) {
	if pid <= 0 {
		return
	}
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// first pins a slice and returns its beginning, nil if it is empty.
func first[T any](pins *runtime.Pinner, s []T) unsafe.Pointer {
	if len(s) == 0 {
		return nil
	}
	pins.Pin(&s[0])
	return unsafe.Pointer(&s[0])
}

// text is a string of C, nil if it is empty.
func text(pins *runtime.Pinner, s string) *C.char {
	if s == "" {
		return nil
	}
	return (*C.char)(first(pins, append([]byte(s), 0)))
}

// list is a list of strings of C that ends with nil. Strings may be empty.
func list(pins *runtime.Pinner, in []string) **C.char {
	out := make([]*C.char, len(in)+1)
	for i, s := range in {
		out[i] = (*C.char)(first(pins, append([]byte(s), 0)))
	}
	return (**C.char)(first(pins, out))
}

// lastCap is the highest capability that the kernel knows.
func lastCap() int {
	for c := 63; c > 0; c-- {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil {
			return c
		}
	}
	return 0
}
