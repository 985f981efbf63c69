package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// need is a system call that the thread of the container's init makes after
// the filter is installed and before execve.
type need struct {
	name string
	arg0 []uint64 // the values it is called with; nil: unknown
	// spare are the error numbers that do no harm; anyErrno if all do none.
	spare []uint32
}

var anyErrno = []uint32{0}

// needs was found by strace of libcontainer 1.5.2 (finalizeNamespace and what
// follows, for init and exec, root and other users, with and without
// no_new_privs) and by starting containers with each call blocked with EPERM,
// ENOSYS, EINVAL and by killing. What the Go runtime may do on that thread at
// any time is here too.
var needs = []need{
	// Capabilities and user.
	{name: "prctl", arg0: []uint64{
		1,  // PR_SET_PDEATHSIG
		2,  // PR_GET_PDEATHSIG
		8,  // PR_SET_KEEPCAPS
		24, // PR_CAPBSET_DROP
		47, // PR_CAP_AMBIENT
	}},
	{name: "capget"}, {name: "capset"},
	{name: "setgroups"}, {name: "setgid"}, {name: "setuid"},
	{name: "fchown", spare: []uint32{1, 30}}, // of stdio; EPERM and EROFS are let pass
	{name: "getppid"},
	// Working directory and the look-up of the program.
	{name: "chdir"}, {name: "getcwd"}, {name: "newfstatat"}, {name: "statx"},
	{name: "faccessat2", spare: []uint32{errnoPerm, errnoNoSys}}, {name: "faccessat", spare: anyErrno},
	{name: "uname", spare: anyErrno},
	// Descriptors: /proc/self/fd is read, all that the program shall not get
	// is closed. A private procfs is tried first and not insisted on.
	{name: "openat"}, {name: "openat2", spare: anyErrno}, {name: "fstat"}, {name: "fstatfs"}, {name: "fcntl"},
	{name: "getdents64"}, {name: "read"}, {name: "write"}, {name: "close"},
	{name: "open_tree", spare: anyErrno}, {name: "fsopen", spare: anyErrno}, {name: "fsconfig", spare: anyErrno},
	{name: "fsmount", spare: anyErrno},
	// The Go runtime: locks, memory, preemption by signals, setuid in all threads.
	{name: "futex"}, {name: "rt_sigreturn"}, {name: "mmap"}, {name: "exit_group"},
	{name: "munmap", spare: anyErrno}, {name: "madvise", spare: anyErrno}, {name: "rt_sigprocmask", spare: anyErrno},
	{name: "getpid", spare: anyErrno}, {name: "gettid", spare: anyErrno}, {name: "tgkill", spare: anyErrno},
	{name: "nanosleep", spare: anyErrno}, {name: "sched_yield", spare: anyErrno}, {name: "epoll_ctl", spare: anyErrno},
	{name: "execve"},
}

// Required lists the system calls that a profile must let the runtime make.
func Required() []string {
	var out []string
	for _, n := range needs {
		out = append(out, n.name)
	}
	return out
}

// check refuses a profile that stops the runtime after the filter is
// installed. A comparison with an argument that is not known in advance is
// taken to go either way.
func (p *policy) check() error {
	numbers := p.numbers()
	var blocked []string
	for _, n := range needs {
		nr, ok := numbers[n.name]
		if !ok {
			continue
		}
		for _, ret := range p.outcomes(nr, n.arg0) {
			if !n.bears(ret) {
				blocked = append(blocked, n.name+" ("+actionName(ret)+")")
				break
			}
		}
	}
	if blocked == nil {
		return nil
	}
	return fault.Invalid("seccomp profile blocks what the runtime does between installing the filter and starting the program: %s; "+
		"allow these system calls", strings.Join(blocked, ", "))
}

func (n need) bears(ret uint32) bool {
	errno := ret & 0xffff
	switch ret & retActionMask {
	case retTrace: // no tracer is attached
		errno = errnoNoSys
	case retErrno:
	default:
		return permits(ret)
	}
	return slices.Equal(n.spare, anyErrno) || slices.Contains(n.spare, errno)
}

// outcomes are the results that a call may have. arg0 lists the first
// argument's possible values, nil if it may be anything.
func (p *policy) outcomes(nr uint32, arg0 []uint64) []uint32 {
	if p.enosys && nr > p.max {
		return []uint32{retErrno | errnoNoSys}
	}
	if arg0 == nil {
		return p.possible(nr, nil)
	}
	var out []uint32
	for _, v := range arg0 {
		out = append(out, p.possible(nr, &v)...)
	}
	return out
}

func (p *policy) possible(nr uint32, arg0 *uint64) []uint32 {
	var out []uint32
rules:
	for _, r := range p.calls[nr] {
		certain := true
		for _, c := range r.conds {
			if c.arg != 0 || arg0 == nil {
				certain = false
			} else if !c.holds(*arg0) {
				continue rules
			}
		}
		out = append(out, r.ret)
		if certain {
			return out
		}
	}
	return append(out, p.def)
}

func (c cond) holds(v uint64) bool {
	switch c.op {
	case specs.OpNotEqual:
		return v != c.a
	case specs.OpLessThan:
		return v < c.a
	case specs.OpLessEqual:
		return v <= c.a
	case specs.OpGreaterEqual:
		return v >= c.a
	case specs.OpGreaterThan:
		return v > c.a
	case specs.OpMaskedEqual:
		return v&c.a == c.b
	}
	return v == c.a
}

func actionName(ret uint32) string {
	switch ret & retActionMask {
	case retErrno:
		return fmt.Sprintf("SCMP_ACT_ERRNO %d", ret&0xffff)
	case retTrace:
		return string(specs.ActTrace)
	case retTrap:
		return string(specs.ActTrap)
	case retKillProcess:
		return string(specs.ActKillProcess)
	}
	return string(specs.ActKill)
}
