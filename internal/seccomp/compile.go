package seccomp

import (
	"errors"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// Compile makes the kernel's program of a profile for a machine of the given
// GOARCH (amd64, 386, arm64 or arm): an array of struct sock_filter, 8 bytes
// each. flags are for [Install].
//
// Errors: fs.ErrInvalid for a profile that is malformed, or blocks what the
// runtime must do once the filter is installed ([Required]);
// errors.ErrUnsupported for SCMP_ACT_NOTIFY, for architectures without a
// table of system calls, and for a program of more than 4096 instructions.
func Compile(p *specs.LinuxSeccomp, arch string) (prog []byte, flags uint, err error) {
	if p == nil {
		return nil, 0, fault.Invalid("seccomp: no profile to compile")
	}
	flags, err = parseFlags(p.Flags)
	if err != nil {
		return nil, 0, err
	}
	list, err := policies(p, arch)
	if err != nil {
		return nil, 0, err
	}
	if err := list[0].check(); err != nil {
		return nil, 0, err
	}
	prog, err = assembleAll(list)
	return prog, flags, err
}

// assembleAll writes: load arch; compare with each, the native one first; else
// kill. X32 goes with x86_64, whose AUDIT_ARCH it shares.
func assembleAll(list []*policy) ([]byte, error) {
	asm := &assembler{returns: map[uint32]int{}}
	var first []*policy // of each AUDIT_ARCH
	for _, p := range list {
		if !slices.ContainsFunc(first, func(q *policy) bool { return q.audit == p.audit }) {
			first = append(first, p)
		}
	}
	next := returns(retKillThread)
	for _, p := range slices.Backward(first) {
		var section target
		if p.audit == abis[0].audit {
			section = assembleX86_64(asm, find(list, specs.ArchX86_64), find(list, specs.ArchX32))
		} else {
			section = asm.section(p)
		}
		next = asm.branch(opJumpEQ, p.audit, section, next)
	}
	asm.load(offArch)
	if n := len(asm.back); n > maxInstructions {
		return nil, fault.Kind(errors.ErrUnsupported, "seccomp profile compiles to %d instructions and the kernel takes %d at most: "+
			"use fewer argument comparisons or fewer architectures", n, maxInstructions)
	}
	return asm.program(), nil
}

func find(list []*policy, a specs.Arch) *policy {
	for _, p := range list {
		if p.arch == a {
			return p
		}
	}
	return nil
}

// assembleX86_64 tells x86_64 from x32, which differ by bit 30 of the number.
// The number -1, by which a tracer skips a call, is never killed.
func assembleX86_64(asm *assembler, x64, x32 *policy) target {
	native, other := returns(retKillThread), returns(retKillThread)
	test, bound := opJumpBits, x32Bit
	if x32 != nil {
		other = asm.tree(x32.segments())
	} else {
		other = asm.branch(opJumpEQ, 0xffffffff, returns(x64.def), other)
		if !x64.enosys {
			test = opJumpGE // also numbers with bit 31 alone are no x86_64 calls
		}
	}
	if x64 != nil {
		native = asm.tree(x64.segments())
	}
	asm.branch(test, bound, other, native)
	return asm.load(offNr)
}

func (a *assembler) section(p *policy) target {
	t := a.tree(p.segments())
	if t.pos < 0 {
		return t
	}
	return a.load(offNr)
}

// segment is a range of numbers, up to the next segment's lo, of one result:
// a constant if rules is empty.
type segment struct {
	lo    uint32
	rules []rule
	ret   uint32 // the constant, or what follows the rules
	wide  bool
}

// segments divides all 32-bit numbers into the fewest ranges. Those outside
// of the ABI's own half (x32) never reach the tree.
func (p *policy) segments() []segment {
	segs := []segment{{ret: p.def}}
	push := func(s segment) {
		last := &segs[len(segs)-1]
		switch {
		case last.lo == s.lo:
			*last = s
		case len(last.rules) == 0 && len(s.rules) == 0 && last.ret == s.ret:
			return
		default:
			segs = append(segs, s)
			return
		}
		// The replaced segment may now equal the one before it.
		if n := len(segs); n > 1 && len(s.rules) == 0 && len(segs[n-2].rules) == 0 && segs[n-2].ret == s.ret {
			segs = segs[:n-1]
		}
	}
	for _, nr := range slices.Sorted(maps.Keys(p.calls)) {
		if p.enosys && nr > p.max {
			break // i386 calls that the profile names are known by the multiplexer's number
		}
		s := segment{lo: nr, rules: p.calls[nr], ret: p.def, wide: p.wide}
		if len(s.rules[0].conds) == 0 {
			s.ret, s.rules = s.rules[0].ret, nil
		}
		push(s)
		push(segment{lo: nr + 1, ret: p.def})
	}
	if p.enosys {
		push(segment{lo: p.max + 1, ret: retErrno | errnoNoSys})
	}
	return segs
}

// tree writes a balanced search for the number in A.
func (a *assembler) tree(segs []segment) target {
	if len(segs) == 1 {
		return a.leaf(segs[0])
	}
	mid := len(segs) / 2
	right := a.tree(segs[mid:])
	left := a.tree(segs[:mid])
	return a.branch(opJumpGE, segs[mid].lo, right, left)
}

// leaf writes the rules of one number, to be tried in order.
func (a *assembler) leaf(s segment) target {
	next := returns(s.ret)
	for _, r := range slices.Backward(s.rules) {
		yes := returns(r.ret)
		for _, c := range slices.Backward(r.conds) {
			yes = a.compare(c, s.wide, yes, next)
		}
		next = yes
	}
	return next
}
