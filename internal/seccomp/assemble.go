package seccomp

import (
	"encoding/binary"
	"slices"
)

// Opcodes of classic BPF that the kernel admits in a seccomp filter
// (linux/bpf_common.h).
const (
	opLoad     uint16 = 0x20 // A = 32-bit word of struct seccomp_data at k
	opAnd      uint16 = 0x54 // A &= k
	opJump     uint16 = 0x05 // skip k
	opJumpEQ   uint16 = 0x15
	opJumpGT   uint16 = 0x25 // unsigned
	opJumpGE   uint16 = 0x35
	opJumpBits uint16 = 0x45 // A & k != 0
	opReturn   uint16 = 0x06
)

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	offNr   = 0
	offArch = 4
	offArgs = 16 // six times 64 bits
)

// maxInstructions is BPF_MAXINSNS (linux/bpf_common.h).
const maxInstructions = 4096

type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// target is where a branch goes: to an instruction, or to a return of ret.
type target struct {
	pos int // index in assembler.back; -1: a return
	ret uint32
}

func returns(ret uint32) target { return target{-1, ret} }

// assembler builds a program from its end, since jumps lead forward only: so
// every destination is known when a jump to it is written.
type assembler struct {
	back    []instruction  // last instruction first
	returns map[uint32]int // value -> its return written last
}

func (a *assembler) put(i instruction) target {
	a.back = append(a.back, i)
	return target{pos: len(a.back) - 1}
}

// near gives a position that the branch about to be written can reach in 8
// bits, though up to room more instructions come between. It writes a return
// or a long jump if there is none.
func (a *assembler) near(t target, room int) int {
	pos, ok := t.pos, true
	if t.pos < 0 {
		pos, ok = a.returns[t.ret]
	}
	if ok && len(a.back)-1-pos+room <= 255 {
		return pos
	}
	if t.pos < 0 {
		pos = a.put(instruction{code: opReturn, k: t.ret}).pos
		a.returns[t.ret] = pos
		return pos
	}
	return a.put(instruction{code: opJump, k: uint32(len(a.back) - 1 - t.pos)}).pos
}

// branch writes a conditional jump.
func (a *assembler) branch(code uint16, k uint32, yes, no target) target {
	y := a.near(yes, 1)
	n := a.near(no, 0)
	last := len(a.back) - 1
	return a.put(instruction{code, uint8(last - y), uint8(last - n), k})
}

// load writes a load that goes on at the instruction written last.
func (a *assembler) load(off uint32) target { return a.put(instruction{code: opLoad, k: off}) }

// program gives the instructions as the kernel's array of struct sock_filter,
// in the byte order of the supported machines, which is little endian.
func (a *assembler) program() []byte {
	out := make([]byte, 0, 8*len(a.back))
	for _, i := range slices.Backward(a.back) {
		out = binary.LittleEndian.AppendUint16(out, i.code)
		out = append(out, i.jt, i.jf)
		out = binary.LittleEndian.AppendUint32(out, i.k)
	}
	return out
}
