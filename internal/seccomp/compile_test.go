package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func defaultFor(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := Default(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		t.Skip(err)
	}
	return p
}

var allAudits = []uint32{0xc000003e, 0x40000003, 0xc00000b7, 0x40000028, 0, 0xc00000f3}

func edgeNumbers() []uint32 {
	var out []uint32
	for nr := range uint32(601) {
		out = append(out, nr, x32Bit|nr)
	}
	return append(out, 0xf0001, 0xf0002, 0xf0005, 0xf0006, 0xf0007, 1<<31, 1<<31+1, 3<<30, ^uint32(0), x32Bit-1, 1<<31-1)
}

// edgeArgs are values around those that a profile compares with.
func edgeArgs(p *specs.LinuxSeccomp) []uint64 {
	set := []uint64{0, 1, 1 << 32, 1<<32 + 1, 1<<63 - 1, ^uint64(0)}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo} {
				set = append(set, v, v-1, v+1, v|1<<32, v^1<<40, v<<32, ^v)
			}
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// edgeCalls are all system calls with all edge values, one argument at a time.
func edgeCalls(p *specs.LinuxSeccomp) func(yield func(call) bool) {
	values := edgeArgs(p)
	return func(yield func(call) bool) {
		for _, arch := range allAudits {
			for _, nr := range edgeNumbers() {
				for _, v := range values {
					for i := range 3 {
						c := call{arch: arch, nr: nr}
						c.args[i] = v
						if !yield(c) {
							return
						}
					}
				}
			}
		}
	}
}

func checkAgainstReference(t *testing.T, p *specs.LinuxSeccomp, goarch string, calls func(yield func(call) bool)) (instructions, n int) {
	t.Helper()
	prog, err := compileUnchecked(p, goarch)
	if err != nil {
		t.Fatal(err)
	}
	ours := decode(t, prog)
	ref := newReference(p, nativeArch[goarch])
	bad := 0
	for c := range calls {
		n++
		if got, want := run(ours, c), first(ref.ask(c)); got != want {
			if bad++; bad > 5 {
				t.Fatal("and more")
			}
			t.Errorf("%v: got %#x, want %#x", c, got, want)
		}
	}
	return len(ours), n
}

// compileUnchecked admits profiles under which nothing could start.
func compileUnchecked(p *specs.LinuxSeccomp, goarch string) ([]byte, error) {
	list, err := policies(p, goarch)
	if err != nil {
		return nil, err
	}
	return assembleAll(list)
}

func first(a uint32, _ []uint32) uint32 { return a }

func TestDefaultProfileMatchesReference(t *testing.T) {
	for _, caps := range [][]string{
		nil,
		{"CAP_SYS_ADMIN"},
		{"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYSLOG", "CAP_DAC_READ_SEARCH", "CAP_SYS_TIME"},
	} {
		p := defaultFor(t, caps...)
		size, n := checkAgainstReference(t, p, "amd64", edgeCalls(p))
		t.Logf("capabilities %v: %d instructions, %d calls", caps, size, n)
	}
}

func TestArm64MatchesReference(t *testing.T) {
	p := defaultFor(t)
	p.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	size, n := checkAgainstReference(t, p, "arm64", edgeCalls(p))
	t.Logf("%d instructions, %d calls", size, n)
}

var (
	someOps = []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
		specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
	someActions = []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap,
		specs.ActTrace, specs.ActLog}
	someNames = []string{"read", "socket", "accept", "bind", "semop", "semget", "ptrace", "clone", "recvmmsg", "mmap2", "chown32",
		"socketcall", "ipc", "send", "nonsense"}
	someNumbers = []uint32{0, 1, 3, 26, 41, 49, 43, 65, 101, 117, 102, 120, 212, 220, 281, 285, 299, 337, 359, 361, 365, 372, 393,
		600, 56, 63, 190, 193, 198, 243, x32Bit, x32Bit + 41, x32Bit + 56, x32Bit + 521, x32Bit + 600, 1 << 31, 3 << 30, ^uint32(0)}
)

func pick[T any](rnd *rand.Rand, list []T) T { return list[rnd.IntN(len(list))] }

// randomProfile has up to rules rules for each of some calls, with up to
// depth comparisons each; of different arguments, and none through a multiplexer, if there is one rule only.
func randomProfile(rnd *rand.Rand, rules, depth int) *specs.LinuxSeccomp {
	values := []uint64{0, 1, 5, 1 << 32, 1<<32 + 5, 1<<40 | 3, 1 << 63, ^uint64(0)}
	p := &specs.LinuxSeccomp{DefaultAction: pick(rnd, someActions)}
	for _, a := range abis {
		if rnd.IntN(2) == 0 {
			p.Architectures = append(p.Architectures, a.arch)
		}
	}
	for _, name := range someNames {
		if rnd.IntN(3) > 0 || rules == 1 && (name == "socketcall" || name == "ipc") {
			continue
		}
		for range 1 + rnd.IntN(rules) {
			var args []specs.LinuxSeccompArg
			for i := range rnd.IntN(depth + 1) {
				if rules > 1 {
					i = rnd.IntN(3)
				}
				args = append(args, specs.LinuxSeccompArg{Index: uint(i), Op: pick(rnd, someOps),
					Value: pick(rnd, values), ValueTwo: pick(rnd, []uint64{0, 1, 5, 1 << 32, 3})})
			}
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: pick(rnd, someActions), Args: args})
		}
	}
	p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"close", "openat", "execve", "getpid", "uname"}, Action: pick(rnd, someActions)})
	return p
}

func randomCalls(rnd *rand.Rand, p *specs.LinuxSeccomp) func(yield func(call) bool) {
	values := edgeArgs(p)
	return func(yield func(call) bool) {
		for _, arch := range allAudits {
			for _, nr := range someNumbers {
				for range 20 {
					c := call{arch: arch, nr: nr}
					for i := range c.args {
						c.args[i] = pick(rnd, values)
					}
					if !yield(c) {
						return
					}
				}
			}
		}
	}
}

func TestRandomProfilesMatchReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := randomProfile(rnd, 3, 3)
		for _, goarch := range []string{"amd64", "386", "arm64", "arm"} {
			checkAgainstReference(t, p, goarch, randomCalls(rnd, p))
			if t.Failed() {
				t.Fatalf("GOARCH %s, profile %+v", goarch, p)
			}
		}
	}
}
