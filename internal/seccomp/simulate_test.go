package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// call is what the kernel shows to a filter.
type call struct {
	arch, nr uint32
	args     [6]uint64
}

func (c call) String() string {
	return fmt.Sprintf("arch %#x nr %d (%#x) args %#x", c.arch, c.nr, c.nr, c.args)
}

// decode checks what the kernel's seccomp_check_filter and bpf_check_classic
// check: known opcodes, jumps inside of the program, a return at its end.
func decode(t testing.TB, prog []byte) []instruction {
	t.Helper()
	if len(prog)%8 != 0 || len(prog) == 0 || len(prog)/8 > 4096 {
		t.Fatalf("program of %d bytes", len(prog))
	}
	list := make([]instruction, len(prog)/8)
	for i := range list {
		b := prog[8*i:]
		list[i] = instruction{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])}
	}
	for i, in := range list {
		left := len(list) - 1 - i
		switch in.code {
		case opLoad:
			if in.k%4 != 0 || in.k > 60 {
				t.Fatalf("%d: load at %d", i, in.k)
			}
		case opAnd, opReturn:
		case opJump:
			if int(in.k) >= left {
				t.Fatalf("%d: jump by %d of %d", i, in.k, left)
			}
		case opJumpEQ, opJumpGE, opJumpGT, opJumpBits:
			if int(max(in.jt, in.jf)) >= left {
				t.Fatalf("%d: jump by %d or %d of %d", i, in.jt, in.jf, left)
			}
		default:
			t.Fatalf("%d: opcode %#x", i, in.code)
		}
	}
	if last := list[len(list)-1].code; last != opReturn {
		t.Fatalf("program ends with opcode %#x", last)
	}
	return list
}

// run is the kernel's interpreter.
func run(prog []instruction, c call) uint32 {
	var a uint32
	for pc := 0; ; pc++ {
		in := prog[pc]
		skip := func(cond bool) {
			if cond {
				pc += int(in.jt)
			} else {
				pc += int(in.jf)
			}
		}
		switch in.code {
		case opLoad:
			switch {
			case in.k == 0:
				a = c.nr
			case in.k == 4:
				a = c.arch
			case in.k < 16:
				a = 0 // instruction pointer
			default:
				a = uint32(c.args[(in.k-16)/8] >> (in.k % 8 * 8))
			}
		case opAnd:
			a &= in.k
		case opJump:
			pc += int(in.k)
		case opJumpEQ:
			skip(a == in.k)
		case opJumpGT:
			skip(a > in.k)
		case opJumpGE:
			skip(a >= in.k)
		case opJumpBits:
			skip(a&in.k != 0)
		case opReturn:
			return in.k
		default:
			panic(in)
		}
	}
}
