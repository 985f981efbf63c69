package seccomp

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// setModeFilter is SECCOMP_SET_MODE_FILTER of linux/seccomp.h.
const setModeFilter = 1

// Install gives a program of [Compile] to the kernel, for the calling thread
// and what it executes or forks from then on. The caller must have locked its
// goroutine to the thread. It takes CAP_SYS_ADMIN in the user namespace, or
// no_new_privs.
//
// It allocates nothing and makes this one system call, so that a filter may
// be followed by a second one.
func Install(prog []byte, flags uint) error {
	if len(prog) == 0 || len(prog)%8 != 0 || len(prog)/8 > maxInstructions {
		return fault.Invalid("seccomp: a program has 1 to %d instructions of 8 bytes, not %d bytes", maxInstructions, len(prog))
	}
	p := unix.SockFprog{Len: uint16(len(prog) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(prog)))}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, uintptr(flags), uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(prog)
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, unix.EACCES):
		return fault.Privilege("seccomp: installing a filter takes CAP_SYS_ADMIN or no_new_privs: %w", errno)
	case errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL):
		return fault.Unsupported("seccomp: this kernel takes no filter with flags %#x; it needs CONFIG_SECCOMP_FILTER: %w", flags, errno)
	}
	return errno
}
