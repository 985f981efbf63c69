package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// cond is one comparison of an argument. All operators come down to three and
// their negations.
type cond struct {
	arg  uint8
	op   specs.LinuxSeccompOperator
	a, b uint64 // OCI's value and valueTwo
}

// rule is a result under conditions, all of which must hold. Conditions are
// ordered by argument.
type rule struct {
	conds []cond
	ret   uint32
}

// policy is the profile for one ABI.
type policy struct {
	abi
	calls map[uint32][]rule // by number: in the order of trial, first match wins
	def   uint32            // what is returned if none matches
	max   uint32            // numbers above give ENOSYS, if enosys
	// enosys is unset for a permissive default, and if no call is known.
	enosys bool
}

// policies resolves a profile for each of its ABIs, the native one first.
func policies(p *specs.LinuxSeccomp, goarch string) ([]*policy, error) {
	list, err := selectABIs(p.Architectures, goarch)
	if err != nil {
		return nil, err
	}
	def, err := action("default action", p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	rules, err := parseRules(p, def)
	if err != nil {
		return nil, err
	}
	out := make([]*policy, len(list))
	for i, a := range list {
		out[i] = newPolicy(a, def, rules)
	}
	return out, nil
}

// named is a rule for one name, not yet bound to an ABI. skip marks those
// that say no more than the default; they still count for ENOSYS.
type named struct {
	rule
	name string
	skip bool
}

func parseRules(p *specs.LinuxSeccomp, def uint32) ([]named, error) {
	var out []named
	for i, call := range p.Syscalls {
		what := describe(i, call.Names)
		ret, err := action(what, call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		alternatives, err := conditions(what, call.Args)
		if err != nil {
			return nil, err
		}
		for _, name := range call.Names {
			if name == "" {
				return nil, fault.Invalid("seccomp profile: %s: empty name of a system call", what)
			}
			for _, conds := range alternatives {
				out = append(out, named{rule{conds, ret}, name, ret == def})
			}
		}
	}
	return out, nil
}

func describe(i int, names []string) string {
	const shown = 3
	s := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		s += ", ..."
	}
	return fmt.Sprintf("rule %d (%s)", i+1, s)
}

// conditions gives the alternatives of a rule: one list of comparisons, or
// several lists of one each if an argument is compared twice (runc does so
// since libseccomp refuses such a rule).
func conditions(what string, args []specs.LinuxSeccompArg) ([][]cond, error) {
	var conds []cond
	var seen [6]bool
	twice := false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fault.Invalid("seccomp profile: %s: argument index %d; a system call has arguments 0 to 5", what, a.Index)
		}
		switch a.Op {
		case specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual:
		default:
			return nil, fault.Invalid("seccomp profile: %s: unknown operator %q", what, a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		c := cond{uint8(a.Index), a.Op, a.Value, a.ValueTwo & a.Value}
		if a.Op != specs.OpMaskedEqual {
			c.b = 0 // unused: equal comparisons must look equal
		}
		conds = append(conds, c)
	}
	if twice {
		var out [][]cond
		for _, c := range conds {
			out = append(out, []cond{c})
		}
		return out, nil
	}
	slices.SortFunc(conds, func(x, y cond) int { return int(x.arg) - int(y.arg) })
	return [][]cond{conds}, nil
}

func newPolicy(a abi, def uint32, rules []named) *policy {
	p := &policy{abi: a, def: def, calls: map[uint32][]rule{}}
	numbers := a.numbers()
	for _, r := range rules {
		nr, known := numbers[r.name]
		m, isMuxed := muxCall{}, false
		if a.arch == specs.ArchX86 {
			m, isMuxed = muxed[r.name]
		}
		if known && !isMuxed { // libseccomp counts a muxed call by its pseudo number
			p.max = max(p.max, nr)
		}
		if r.skip {
			continue
		}
		r.rule = r.rule.on(a)
		if known {
			p.add(nr, r.rule)
		}
		if isMuxed {
			p.add(numbers[m.via], r.via(m.nr))
		}
	}
	p.enosys = p.max != 0 && !permits(def) && def&retActionMask != retTrace
	for nr, list := range p.calls {
		slices.SortStableFunc(list, func(x, y rule) int { return severity(y.ret) - severity(x.ret) })
		p.calls[nr] = list
	}
	return p
}

// on is the rule as an ABI sees it: arguments of 32 bits, and without tests
// under an empty mask, which always hold.
func (r rule) on(a abi) rule {
	var conds []cond
	for _, c := range r.conds {
		if !a.wide {
			c.a, c.b = uint64(uint32(c.a)), uint64(uint32(c.b))
		}
		if c.op != specs.OpMaskedEqual || c.a != 0 {
			conds = append(conds, c)
		}
	}
	return rule{conds, r.ret}
}

// via is the rule for a multiplexing call: the first argument says which call
// is meant, so a condition on it gives way.
func (r rule) via(nr uint64) rule {
	conds := []cond{{0, specs.OpEqualTo, nr, 0}}
	for _, c := range r.conds {
		if c.arg != 0 {
			conds = append(conds, c)
		}
	}
	return rule{conds, r.ret}
}

// add keeps the list free of rules that a more general one overrides.
func (p *policy) add(nr uint32, r rule) {
	list := p.calls[nr]
	for _, have := range list {
		if begins(r.conds, have.conds) {
			return
		}
	}
	list = slices.DeleteFunc(list, func(have rule) bool { return begins(have.conds, r.conds) })
	p.calls[nr] = append(list, r)
}

// begins reports whether conds starts with prefix.
func begins(conds, prefix []cond) bool {
	return len(conds) >= len(prefix) && slices.Equal(conds[:len(prefix)], prefix)
}
