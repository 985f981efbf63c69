//go:build cgo

package runtime

import (
	"encoding/binary"
	stdruntime "runtime"

	"golang.org/x/sys/unix"
)

// allows runs the filter on a system call of this machine with arguments of
// zero. It understands what our compiler makes; anything else is a no.
func (f Filter) allows(nr int) bool {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[stdruntime.GOARCH]
	if len(f.Program) == 0 {
		return true
	}
	word, n := uint32(0), len(f.Program)/8
	for pc := 0; pc < n; pc++ { // jumps go forward only
		i := f.Program[8*pc : 8*pc+8]
		code, jt, jf, k := binary.NativeEndian.Uint16(i), int(i[2]), int(i[3]), binary.NativeEndian.Uint32(i[4:])
		jump := func(yes bool) {
			if yes {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS: // offsets of struct seccomp_data
			word = map[uint32]uint32{0: uint32(nr), 4: arch}[k]
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			word &= k
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(word == k)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(word > k)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(word >= k)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(word&k != 0)
		case unix.BPF_RET | unix.BPF_K:
			const allow, log = 0x7fff0000, 0x7ffc0000 // SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
			return k&0xffff0000 == allow || k&0xffff0000 == log
		default:
			return false
		}
	}
	return false
}
