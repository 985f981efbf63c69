//go:build libseccomp && cgo

package seccomp

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// These tests compare with libseccomp itself. They need libseccomp-dev:
//
//	go test -tags libseccomp ./internal/seccomp

var scmpArch = map[specs.Arch]libseccomp.ScmpArch{
	specs.ArchX86_64: libseccomp.ArchAMD64, specs.ArchX32: libseccomp.ArchX32, specs.ArchX86: libseccomp.ArchX86,
	specs.ArchAARCH64: libseccomp.ArchARM64, specs.ArchARM: libseccomp.ArchARM,
}

func TestNumbersEqualLibseccomp(t *testing.T) {
	for _, a := range abis {
		nrs := a.numbers()
		names := map[string]bool{}
		for line := range strings.Lines(syscallTable) {
			name, _, _ := strings.Cut(line, " ")
			names[name] = true
		}
		delete(names, "#")
		for name := range names {
			theirs, err := libseccomp.GetSyscallFromNameByArch(name, scmpArch[a.arch])
			ours, ok := nrs[name]
			switch {
			case err != nil: // newer than the library
			case theirs < 0 && ok && !(a.arch == specs.ArchX86 && muxed[name].via != ""):
				t.Logf("%s: %s is %d here, unknown to libseccomp", a.arch, name, ours)
			case theirs >= 0 && !ok:
				t.Errorf("%s: %s is %d in libseccomp, unknown here", a.arch, name, theirs)
			case theirs >= 0 && uint32(theirs) != ours:
				t.Errorf("%s: %s is %d in libseccomp, %d here", a.arch, name, theirs, ours)
			}
		}
	}
}

func libAction(ret uint32) libseccomp.ScmpAction {
	data := int16(ret)
	switch ret & retActionMask {
	case retAllow:
		return libseccomp.ActAllow
	case retErrno:
		return libseccomp.ActErrno.SetReturnCode(data)
	case retTrace:
		return libseccomp.ActTrace.SetReturnCode(data)
	case retTrap:
		return libseccomp.ActTrap
	case retLog:
		return libseccomp.ActLog
	case retKillProcess:
		return libseccomp.ActKillProcess
	}
	return libseccomp.ActKillThread
}

var libOp = map[specs.LinuxSeccompOperator]libseccomp.ScmpCompareOp{
	specs.OpEqualTo: libseccomp.CompareEqual, specs.OpNotEqual: libseccomp.CompareNotEqual, specs.OpLessThan: libseccomp.CompareLess,
	specs.OpLessEqual: libseccomp.CompareLessOrEqual, specs.OpGreaterThan: libseccomp.CompareGreater,
	specs.OpGreaterEqual: libseccomp.CompareGreaterEqual, specs.OpMaskedEqual: libseccomp.CompareMaskedEqual,
}

// libProgram builds what libseccomp makes of a profile, without runc's rule
// for ENOSYS.
func libProgram(t *testing.T, p *specs.LinuxSeccomp) ([]instruction, error) {
	def, err := action("", p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	f, err := libseccomp.NewFilter(libAction(def))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	for _, a := range p.Architectures {
		if err := f.AddArch(scmpArch[a]); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := parseRules(p, def)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		nr, err := libseccomp.GetSyscallFromName(r.name)
		if err != nil || r.skip {
			continue
		}
		if len(r.conds) == 0 {
			err = f.AddRule(nr, libAction(r.ret))
		} else {
			var conds []libseccomp.ScmpCondition
			for _, c := range r.conds {
				lc, err := libseccomp.MakeCondition(uint(c.arg), libOp[c.op], c.a, c.b)
				if err != nil {
					t.Fatal(err)
				}
				conds = append(conds, lc)
			}
			err = f.AddRuleConditional(nr, libAction(r.ret), conds)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
	}
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	go func() {
		f.ExportBPF(wr)
		wr.Close()
	}()
	b, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b), nil
}

// stub says what runc's prefix returns, if anything.
func stub(list []*policy, c call) (uint32, bool) {
	for _, p := range list {
		if p.audit != c.arch || !p.enosys {
			continue
		}
		if p.audit == abis[0].audit && (c.nr&x32Bit != 0) != (p.bit != 0) {
			continue
		}
		if c.nr > p.max {
			return retErrno | errnoNoSys, true
		}
	}
	return 0, false
}

func compareWithLib(t *testing.T, p *specs.LinuxSeccomp, calls func(yield func(call) bool)) (n int) {
	t.Helper()
	theirs, err := libProgram(t, p)
	if err != nil {
		t.Logf("libseccomp refuses: %v", err)
		return 0
	}
	prog, err := compileUnchecked(p, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ours := decode(t, prog)
	list, err := policies(p, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref := newReference(p, nativeArch[runtime.GOARCH])
	bad := 0
	for c := range calls {
		want, ok := stub(list, c)
		if !ok {
			want = run(theirs, c)
		}
		got := run(ours, c)
		if got == want {
			n++
			continue
		}
		// Where several rules match with different actions libseccomp takes
		// one of them; and it does not come back from a rule that fails at
		// its second comparison to one with another first comparison.
		def := returnValue(p.DefaultAction, p.DefaultErrnoRet)
		_, matching := ref.ask(c)
		if slices.Contains(matching, got) && (slices.Contains(matching, want) || want == def) {
			continue
		}
		if bad++; bad < 10 {
			t.Errorf("%v: got %#x, libseccomp %#x", c, got, want)
		}
	}
	return n
}

func TestDefaultEqualsLibseccomp(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYS_NICE", "CAP_PERFMON", "CAP_SYS_TIME"}} {
		p := defaultFor(t, caps...)
		known := p.Syscalls[:0:0]
		for _, s := range p.Syscalls { // the installed library may be older than the table
			var names []string
			for _, n := range s.Names {
				if _, err := libseccomp.GetSyscallFromName(n); err == nil {
					names = append(names, n)
				}
			}
			if s.Names = names; len(names) > 0 {
				known = append(known, s)
			}
		}
		p.Syscalls = known
		n := compareWithLib(t, p, edgeCalls(p))
		t.Logf("%v: %d calls equal", caps, n)
	}
}

// TestRandomEqualLibseccomp compares where libseccomp's answer follows from
// its documentation: see compareWithLib.
func TestRandomEqualLibseccomp(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for depth := 1; depth <= 3; depth++ {
		total := 0
		for range 1000 {
			p := randomProfile(rnd, 1, depth)
			total += compareWithLib(t, p, randomCalls(rnd, p))
			if t.Failed() {
				j, _ := json.Marshal(p)
				t.Fatalf("%s", j)
			}
		}
		t.Logf("%d comparisons a rule: %d calls equal", depth, total)
	}
}
