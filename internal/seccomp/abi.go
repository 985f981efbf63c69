package seccomp

import (
	_ "embed"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// syscallTable has one line for each name, with its number on each ABI. It is
// text so that programs which never compile a profile pay nothing for it.
//
//go:embed syscalls.txt
var syscallTable string

// x32Bit marks the system calls of the x32 ABI, which shares AUDIT_ARCH_X86_64.
const x32Bit uint32 = 0x40000000

// abi is one calling convention that a filter knows.
type abi struct {
	arch   specs.Arch
	audit  uint32 // AUDIT_ARCH_*, linux/audit.h
	column int    // in syscalls.txt
	bit    uint32 // set in each number
	wide   bool   // arguments are compared in 64 bits
}

var abis = []abi{
	{specs.ArchX86_64, 0xc000003e, 1, 0, true},
	{specs.ArchX32, 0xc000003e, 2, x32Bit, false},
	{specs.ArchX86, 0x40000003, 3, 0, false},
	{specs.ArchAARCH64, 0xc00000b7, 4, 0, true},
	{specs.ArchARM, 0x40000028, 5, 0, false},
}

var nativeArch = map[string]specs.Arch{
	"amd64": specs.ArchX86_64,
	"386":   specs.ArchX86,
	"arm64": specs.ArchAARCH64,
	"arm":   specs.ArchARM,
}

func abiOf(a specs.Arch) (abi, bool) {
	for _, x := range abis {
		if x.arch == a {
			return x, true
		}
	}
	return abi{}, false
}

// foreign are the architectures of the OCI specification without a table here.
var foreign = map[specs.Arch]bool{
	specs.ArchMIPS: true, specs.ArchMIPS64: true, specs.ArchMIPS64N32: true,
	specs.ArchMIPSEL: true, specs.ArchMIPSEL64: true, specs.ArchMIPSEL64N32: true,
	specs.ArchPPC: true, specs.ArchPPC64: true, specs.ArchPPC64LE: true,
	specs.ArchS390: true, specs.ArchS390X: true, specs.ArchPARISC: true, specs.ArchPARISC64: true,
	specs.ArchRISCV64: true, specs.ArchLOONGARCH64: true, specs.ArchM68K: true, specs.ArchSH: true, specs.ArchSHEB: true,
}

// selectABIs gives those of the profile, the native one first: it is implied.
func selectABIs(archs []specs.Arch, goarch string) ([]abi, error) {
	name, ok := nativeArch[goarch]
	if !ok {
		return nil, fault.Unsupported("seccomp: no table of system calls for GOARCH %s; amd64, 386, arm64 and arm have one", goarch)
	}
	native, _ := abiOf(name)
	list := []abi{native}
	seen := map[specs.Arch]bool{name: true}
	for _, a := range archs {
		if seen[a] {
			continue
		}
		seen[a] = true
		x, ok := abiOf(a)
		switch {
		case ok:
			list = append(list, x)
		case foreign[a]:
			return nil, fault.Unsupported("seccomp profile: no table of system calls for architecture %s; leave it out of the profile", a)
		default:
			return nil, fault.Invalid("seccomp profile: unknown architecture %q", a)
		}
	}
	return list, nil
}

// numbers parses the table's column of an ABI.
func (a abi) numbers() map[string]uint32 {
	m := make(map[string]uint32, 512)
	for line := range strings.Lines(syscallTable) {
		if line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		field := ""
		for range a.column {
			field, rest, _ = strings.Cut(rest, " ")
		}
		if field == "-" {
			continue
		}
		nr, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			panic("seccomp: damaged syscalls.txt: " + line)
		}
		m[name] = uint32(nr) | a.bit
	}
	return m
}

// muxCall is the number of a call within the system call that carries it.
type muxCall struct {
	via string
	nr  uint64
}

// muxed are the i386 calls that go through socketcall (linux/net.h) and ipc
// (linux/ipc.h), most of them besides a number of their own since Linux 4.3
// and 5.1.
var muxed = map[string]muxCall{
	"socket": {"socketcall", 1}, "bind": {"socketcall", 2}, "connect": {"socketcall", 3}, "listen": {"socketcall", 4},
	"accept": {"socketcall", 5}, "getsockname": {"socketcall", 6}, "getpeername": {"socketcall", 7},
	"socketpair": {"socketcall", 8}, "send": {"socketcall", 9}, "recv": {"socketcall", 10}, "sendto": {"socketcall", 11},
	"recvfrom": {"socketcall", 12}, "shutdown": {"socketcall", 13}, "setsockopt": {"socketcall", 14},
	"getsockopt": {"socketcall", 15}, "sendmsg": {"socketcall", 16}, "recvmsg": {"socketcall", 17},
	"accept4": {"socketcall", 18}, "recvmmsg": {"socketcall", 19}, "sendmmsg": {"socketcall", 20},
	"semop": {"ipc", 1}, "semget": {"ipc", 2}, "semctl": {"ipc", 3}, "semtimedop": {"ipc", 4},
	"msgsnd": {"ipc", 11}, "msgrcv": {"ipc", 12}, "msgget": {"ipc", 13}, "msgctl": {"ipc", 14},
	"shmat": {"ipc", 21}, "shmdt": {"ipc", 22}, "shmget": {"ipc", 23}, "shmctl": {"ipc", 24},
}
