//go:build cgo

package runtime

import (
	"os/exec"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

var errNotFound = exec.ErrNotFound

// Numbers of the kernel's asm-generic/resource.h.
var rlimitTypes = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
	"RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// clampRlimits lowers what this process may not grant. Without
// CAP_SYS_RESOURCE nobody can raise a hard limit; Docker in such a place runs
// the container with the host's limit, and so do we.
func clampRlimits(limits []configs.Rlimit) []configs.Rlimit {
	if HasCapability(unix.CAP_SYS_RESOURCE) {
		return limits
	}
	for i := range limits {
		var own unix.Rlimit
		if unix.Prlimit(0, limits[i].Type, nil, &own) != nil {
			continue
		}
		limits[i].Hard = min(limits[i].Hard, own.Max)
		limits[i].Soft = min(limits[i].Soft, limits[i].Hard)
	}
	return limits
}

// HasCapability reports whether this thread has c in its effective set.
func HasCapability(c uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}
