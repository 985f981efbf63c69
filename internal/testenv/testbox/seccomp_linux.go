package main

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
)

// probe is a system call with arguments that do nothing where it is allowed.
type probe struct {
	nr   uintptr
	args [3]uintptr
}

// minusOne is a descriptor that never is open.
const minusOne = ^uintptr(0)

// seccompProbe prints "name errno" for calls that Docker's default profile
// treats in different ways: EPERM by default, ENOSYS for clone3 and for
// numbers above the table, by argument for personality and socket, by
// capability for mount, bpf and others. The kernel's own answer (EINVAL,
// EBADF, EFAULT) means that the filter let the call through.
func seccompProbe(args []string) int {
	all := probes()
	var order []string
	for n := range all {
		order = append(order, n)
	}
	slices.Sort(order)
	if len(args) > 0 {
		order = args
	}
	for _, n := range order {
		p, ok := all[n]
		if !ok {
			fmt.Println(n, "not-on-this-architecture")
			continue
		}
		_, _, errno := syscall.RawSyscall6(p.nr, p.args[0], p.args[1], p.args[2], 0, 0, 0)
		fmt.Println(n, errnoName(errno))
	}
	return 0
}

func errnoName(e syscall.Errno) string {
	names := map[syscall.Errno]string{
		0: "ok", syscall.EPERM: "EPERM", syscall.ENOSYS: "ENOSYS", syscall.EINVAL: "EINVAL", syscall.EBADF: "EBADF",
		syscall.EFAULT: "EFAULT", syscall.EACCES: "EACCES", syscall.EAFNOSUPPORT: "EAFNOSUPPORT", syscall.ENOENT: "ENOENT",
		syscall.EPROTONOSUPPORT: "EPROTONOSUPPORT", syscall.ESOCKTNOSUPPORT: "ESOCKTNOSUPPORT", syscall.E2BIG: "E2BIG",
		syscall.ESRCH: "ESRCH", syscall.ENODEV: "ENODEV", syscall.EOPNOTSUPP: "EOPNOTSUPP", syscall.EBUSY: "EBUSY",
	}
	if n := names[e]; n != "" {
		return n
	}
	return fmt.Sprintf("errno-%d", int(e))
}

func probes() map[string]probe {
	const newUser, afVsock = 0x10000000, 40
	// Numbers from 424 on are the same on every architecture.
	all := map[string]probe{
		"clone3": {nr: 435}, "openat2": {nr: 437, args: [3]uintptr{minusOne}}, "pidfd_open": {nr: 434, args: [3]uintptr{minusOne}},
		"fsopen": {nr: 430}, "open_tree": {nr: 428, args: [3]uintptr{minusOne}}, "io_uring_setup": {nr: 425},
		"mount_setattr": {nr: 442, args: [3]uintptr{minusOne}}, "nr9999": {nr: 9999},
		"getpid":  {nr: syscall.SYS_GETPID},
		"unshare": {nr: syscall.SYS_UNSHARE, args: [3]uintptr{newUser}}, "setns": {nr: sysSetns, args: [3]uintptr{minusOne}},
		"mount": {nr: syscall.SYS_MOUNT}, "umount2": {nr: syscall.SYS_UMOUNT2}, "pivot_root": {nr: syscall.SYS_PIVOT_ROOT},
		"keyctl": {nr: syscall.SYS_KEYCTL, args: [3]uintptr{minusOne}}, "add_key": {nr: syscall.SYS_ADD_KEY},
		"bpf": {nr: sysBpf, args: [3]uintptr{minusOne}}, "perf_event_open": {nr: syscall.SYS_PERF_EVENT_OPEN},
		"personality-query": {nr: syscall.SYS_PERSONALITY, args: [3]uintptr{0xffffffff}},
		"personality-odd":   {nr: syscall.SYS_PERSONALITY, args: [3]uintptr{0x00110000}},
		"socket-vsock":      {nr: syscall.SYS_SOCKET, args: [3]uintptr{afVsock, minusOne}},
		"ptrace":            {nr: syscall.SYS_PTRACE, args: [3]uintptr{16, minusOne}},
		"kexec_load":        {nr: syscall.SYS_KEXEC_LOAD, args: [3]uintptr{0, minusOne}},
		"init_module":       {nr: syscall.SYS_INIT_MODULE}, "delete_module": {nr: syscall.SYS_DELETE_MODULE},
		"reboot": {nr: syscall.SYS_REBOOT}, "swapon": {nr: syscall.SYS_SWAPON},
		"open_by_handle_at": {nr: sysOpenByHandle, args: [3]uintptr{minusOne}},
		"userfaultfd":       {nr: sysUserfaultfd, args: [3]uintptr{minusOne}},
		"quotactl":          {nr: syscall.SYS_QUOTACTL, args: [3]uintptr{minusOne}},
		"syslog":            {nr: syscall.SYS_SYSLOG, args: [3]uintptr{99}},
	}
	if runtime.GOARCH == "amd64" {
		all["x32-getpid"] = probe{nr: 0x40000000 + 39}
	}
	return all
}
