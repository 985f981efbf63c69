package seccomp

import (
	"errors"
	"io/fs"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// Return values of a filter, from linux/seccomp.h. The low 16 bits are data.
const (
	retKillProcess uint32 = 0x80000000
	retKillThread  uint32 = 0x00000000
	retTrap        uint32 = 0x00030000
	retErrno       uint32 = 0x00050000
	retTrace       uint32 = 0x7ff00000
	retLog         uint32 = 0x7ffc0000
	retAllow       uint32 = 0x7fff0000

	retActionMask uint32 = 0xffff0000

	errnoPerm  = 1  // EPERM, the number on every Linux ABI here
	errnoNoSys = 38 // ENOSYS
)

// Flags of seccomp(2), from linux/seccomp.h.
const (
	FlagLog       uint = 1 << 1
	FlagSpecAllow uint = 1 << 2
)

// action gives the return value for an action of a profile. what names its
// place for error texts.
func action(what string, a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(errnoPerm)
	if errno != nil {
		if *errno > 0xffff {
			return 0, fault.Invalid("seccomp profile: %s: errnoRet %d does not fit 16 bits", what, *errno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActNotify:
		return 0, fault.Kind(errors.ErrUnsupported, "seccomp profile: %s: SCMP_ACT_NOTIFY needs an agent outside the "+
			"container, which is not supported; use SCMP_ACT_ERRNO or SCMP_ACT_ALLOW", what)
	case "":
		return 0, fault.Invalid("seccomp profile: %s: no action given", what)
	}
	return 0, fault.Kind(fs.ErrInvalid, "seccomp profile: %s: unknown action %q", what, a)
}

// severity orders actions as the kernel does between filters: the greater one
// wins.
func severity(ret uint32) int {
	switch ret & retActionMask {
	case retKillProcess:
		return 6
	case retKillThread:
		return 5
	case retTrap:
		return 4
	case retErrno:
		return 3
	case retTrace:
		return 2
	case retLog:
		return 1
	}
	return 0
}

// permits reports whether a call with this result is carried out. Trace is
// not among them: without a tracer the kernel answers ENOSYS.
func permits(ret uint32) bool {
	r := ret & retActionMask
	return r == retAllow || r == retLog
}

// parseFlags gives the flags for seccomp(2). As in runc, no flags at all
// means SPEC_ALLOW, and TSYNC is accepted without effect: other threads of
// the process that installs the filter end at its execve anyway.
func parseFlags(flags []specs.LinuxSeccompFlag) (uint, error) {
	if flags == nil {
		return FlagSpecAllow, nil
	}
	var bits uint
	for _, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			bits |= FlagLog
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= FlagSpecAllow
		case "SECCOMP_FILTER_FLAG_TSYNC":
		case specs.LinuxSeccompFlagWaitKillableRecv:
			return 0, fault.Unsupported("seccomp profile: flag %s is for SCMP_ACT_NOTIFY, which is not supported", f)
		default:
			return 0, fault.Invalid("seccomp profile: unknown flag %q", f)
		}
	}
	return bits, nil
}
