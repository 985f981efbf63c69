package seccomp

import (
	"slices"
	"sort"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// reference answers calls by reading the profile as a person would, with
// nothing of the compiler but its tables of numbers.
type reference struct {
	p      *specs.LinuxSeccomp
	native specs.Arch
	names  map[specs.Arch]map[uint32][]string
	max    map[specs.Arch]uint32
	memo   map[place][]hit
}

var returnOf = map[specs.LinuxSeccompAction]uint32{
	"SCMP_ACT_ALLOW": 0x7fff0000, "SCMP_ACT_LOG": 0x7ffc0000, "SCMP_ACT_TRACE": 0x7ff00001, "SCMP_ACT_ERRNO": 0x50001,
	"SCMP_ACT_TRAP": 0x30000, "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0, "SCMP_ACT_KILL_PROCESS": 0x80000000,
}

func returnValue(a specs.LinuxSeccompAction, errno *uint) uint32 {
	v := returnOf[a]
	if errno != nil && v&0xffff == 1 {
		v = v&^0xffff | uint32(*errno)
	}
	return v
}

func newReference(p *specs.LinuxSeccomp, native specs.Arch) *reference {
	r := &reference{p, native, map[specs.Arch]map[uint32][]string{}, map[specs.Arch]uint32{}, map[place][]hit{}}
	for _, a := range append([]specs.Arch{native}, p.Architectures...) {
		x, _ := abiOf(a)
		r.names[a] = map[uint32][]string{}
		for name, nr := range x.numbers() {
			r.names[a][nr] = append(r.names[a][nr], name)
			for _, s := range p.Syscalls {
				for _, n := range s.Names {
					if n == name && !(a == "SCMP_ARCH_X86" && muxed[n].via != "") {
						r.max[a] = max(r.max[a], nr)
					}
				}
			}
		}
	}
	return r
}

func (r *reference) archOf(c call) specs.Arch {
	var a specs.Arch
	switch c.arch {
	case 0xc000003e:
		a = "SCMP_ARCH_X86_64"
		if c.nr&(1<<30) != 0 {
			a = "SCMP_ARCH_X32"
		}
	case 0x40000003:
		a = "SCMP_ARCH_X86"
	case 0xc00000b7:
		a = "SCMP_ARCH_AARCH64"
	case 0x40000028:
		a = "SCMP_ARCH_ARM"
	}
	if r.names[a] == nil {
		return ""
	}
	return a
}

func holds(a specs.LinuxSeccompArg, v uint64, narrow bool) bool {
	x, y := a.Value, a.ValueTwo
	if narrow {
		v, x, y = v&0xffffffff, x&0xffffffff, y&0xffffffff
	}
	switch a.Op {
	case "SCMP_CMP_NE":
		return v != x
	case "SCMP_CMP_LT":
		return v < x
	case "SCMP_CMP_LE":
		return v <= x
	case "SCMP_CMP_EQ":
		return v == x
	case "SCMP_CMP_GE":
		return v >= x
	case "SCMP_CMP_GT":
		return v > x
	}
	return v&x == y&x
}

// ask gives the expected answer, and the different answers of all rules that
// match when no unconditional rule decides.
func (r *reference) ask(c call) (want uint32, matching []uint32) {
	def := returnValue(r.p.DefaultAction, r.p.DefaultErrnoRet)
	a := r.archOf(c)
	strict := def&0xffff0000 < 0x7ff00000 || def == 0x80000000
	if a == "" {
		x64 := r.names["SCMP_ARCH_X86_64"]
		if c.arch == 0xc000003e && x64 != nil && c.nr == 1<<32-1 {
			return def, nil
		}
		return 0, nil
	}
	if a == "SCMP_ARCH_X86_64" && c.nr >= 1<<31 && r.names["SCMP_ARCH_X32"] == nil && !(strict && r.max[a] != 0) {
		return 0, nil
	}
	if strict && r.max[a] != 0 && c.nr > r.max[a] {
		return 0x50026, nil
	}
	rules := r.rules(a, c.nr)
	if len(rules) > 0 && len(rules[0].args) == 0 {
		return rules[0].ret, nil
	}
	narrow := a != "SCMP_ARCH_X86_64" && a != "SCMP_ARCH_AARCH64"
	order := []uint32{0x80000000, 0, 0x30000, 0x50000, 0x7ff00000, 0x7ffc0000, 0x7fff0000}
	want, rank := def, len(order)
next:
	for _, h := range rules {
		for _, arg := range h.args {
			if !holds(arg, c.args[arg.Index], narrow) {
				continue next
			}
		}
		matching = append(matching, h.ret)
		for k, o := range order {
			if o == h.ret&0xffff0000 && k < rank {
				want, rank = h.ret, k
			}
		}
	}
	return want, matching
}

type hit struct {
	args []specs.LinuxSeccompArg
	ret  uint32
}

type place struct {
	a  specs.Arch
	nr uint32
}

// rules are those of a call that no other one overrides; a single one if it
// is unconditional.
func (r *reference) rules(a specs.Arch, nr uint32) []hit {
	if have, ok := r.memo[place{a, nr}]; ok {
		return have
	}
	all := r.written(a, nr)
	var rules []hit
next:
	for i, h := range all {
		for j, o := range all {
			if covers(o.args, h.args) && (len(o.args) < len(h.args) || (len(o.args) == len(h.args) && j < i)) {
				continue next
			}
		}
		rules = append(rules, h)
	}
	r.memo[place{a, nr}] = rules
	return rules
}

// covers reports whether a rule is overridden by one that has the first of
// its comparisons.
func covers(short, long []specs.LinuxSeccompArg) bool {
	for i, x := range short {
		if i >= len(long) || x.Index != long[i].Index || x.Op != long[i].Op || x.Value != long[i].Value ||
			(x.Op == "SCMP_CMP_MASKED_EQ" && x.ValueTwo&x.Value != long[i].ValueTwo&x.Value) {
			return false
		}
	}
	return true
}

// written are the rules of a call in the order of the profile.
func (r *reference) written(a specs.Arch, nr uint32) []hit {
	def := returnValue(r.p.DefaultAction, r.p.DefaultErrnoRet)
	var rules []hit
	for _, s := range r.p.Syscalls {
		ret := returnValue(s.Action, s.ErrnoRet)
		if ret == def {
			continue
		}
		var count [6]int
		alternatives := [][]specs.LinuxSeccompArg{s.Args}
		for _, arg := range s.Args {
			if count[arg.Index]++; count[arg.Index] == 2 {
				alternatives = nil
				for _, one := range s.Args {
					alternatives = append(alternatives, []specs.LinuxSeccompArg{one})
				}
				break
			}
		}
		for _, name := range s.Names {
			for _, args := range alternatives {
				args = append([]specs.LinuxSeccompArg(nil), args...)
				if a != "SCMP_ARCH_X86_64" && a != "SCMP_ARCH_AARCH64" {
					for i := range args {
						args[i].Value &= 0xffffffff
						args[i].ValueTwo &= 0xffffffff
					}
				}
				args = slices.DeleteFunc(args, func(x specs.LinuxSeccompArg) bool { return x.Op == "SCMP_CMP_MASKED_EQ" && x.Value == 0 })
				sort.SliceStable(args, func(x, y int) bool { return args[x].Index < args[y].Index })
				for _, called := range r.names[a][nr] {
					if called == name {
						rules = append(rules, hit{args, ret})
					}
					if m := muxed[name]; a == "SCMP_ARCH_X86" && m.via == called {
						via := []specs.LinuxSeccompArg{{Index: 0, Op: "SCMP_CMP_EQ", Value: m.nr}}
						for _, arg := range args {
							if arg.Index != 0 {
								via = append(via, arg)
							}
						}
						rules = append(rules, hit{via, ret})
					}
				}
			}
		}
	}
	return rules
}
