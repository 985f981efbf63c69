package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// compare writes the test of one argument. The kernel gives arguments as 64
// bits, which BPF sees as two words, the low one first on little endian.
func (a *assembler) compare(c cond, wide bool, yes, no target) target {
	switch c.op {
	case specs.OpNotEqual:
		return a.equal(c.arg, wide, ^uint64(0), c.a, no, yes)
	case specs.OpMaskedEqual:
		return a.equal(c.arg, wide, c.a, c.b, yes, no)
	case specs.OpGreaterThan:
		return a.greater(opJumpGT, c.arg, wide, c.a, yes, no)
	case specs.OpGreaterEqual:
		return a.greater(opJumpGE, c.arg, wide, c.a, yes, no)
	case specs.OpLessEqual:
		return a.greater(opJumpGT, c.arg, wide, c.a, no, yes)
	case specs.OpLessThan:
		return a.greater(opJumpGE, c.arg, wide, c.a, no, yes)
	}
	return a.equal(c.arg, wide, ^uint64(0), c.a, yes, no)
}

func low(arg uint8) uint32  { return offArgs + 8*uint32(arg) }
func high(arg uint8) uint32 { return low(arg) + 4 }

// equal writes the test arg & mask == value.
func (a *assembler) equal(arg uint8, wide bool, mask, value uint64, yes, no target) target {
	t := a.word(low(arg), uint32(mask), uint32(value), yes, no)
	if wide && (mask>>32 != 0 || value>>32 != 0) {
		t = a.word(high(arg), uint32(mask>>32), uint32(value>>32), t, no)
	}
	return t
}

func (a *assembler) word(off, mask, value uint32, yes, no target) target {
	a.branch(opJumpEQ, value, yes, no)
	if mask != ^uint32(0) {
		a.put(instruction{code: opAnd, k: mask})
	}
	return a.load(off)
}

// greater writes an unsigned comparison: op is opJumpGT or opJumpGE.
func (a *assembler) greater(op uint16, arg uint8, wide bool, value uint64, yes, no target) target {
	a.branch(op, uint32(value), yes, no)
	t := a.load(low(arg))
	if !wide {
		return t
	}
	hi := uint32(value >> 32)
	t = a.branch(opJumpEQ, hi, t, no)
	a.branch(opJumpGT, hi, yes, t)
	return a.load(high(arg))
}
