package seccomp

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func errno(n uint) *uint { return &n }

func TestBadProfilesSayWhy(t *testing.T) {
	allow := func(calls ...specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: calls}
	}
	cond := func(op specs.LinuxSeccompOperator, index uint) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: index, Op: op}}
	}
	var many []specs.LinuxSyscall
	for i := range uint64(1500) {
		many = append(many, specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpEqualTo, Value: i << 33}}})
	}
	for _, c := range []struct {
		name string
		p    *specs.LinuxSeccomp
		arch string
		kind error
		text string
	}{
		{"nil", nil, "amd64", fs.ErrInvalid, "no profile"},
		{"no action", &specs.LinuxSeccomp{}, "amd64", fs.ErrInvalid, "default action: no action given"},
		{"action", &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_PRAY"}, "amd64", fs.ErrInvalid, `"SCMP_ACT_PRAY"`},
		{"notify", allow(specs.LinuxSyscall{Names: []string{"mount", "umount2"}, Action: specs.ActNotify}), "amd64", errors.ErrUnsupported, "rule 1 (mount, umount2): SCMP_ACT_NOTIFY"},
		{"default notify", &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "amd64", errors.ErrUnsupported, "default action: SCMP_ACT_NOTIFY"},
		{"operator", allow(specs.LinuxSyscall{Names: []string{"mount"}, Action: specs.ActErrno, Args: cond("SCMP_CMP_ISH", 0)}), "amd64", fs.ErrInvalid, `"SCMP_CMP_ISH"`},
		{"index", allow(specs.LinuxSyscall{Names: []string{"mount"}, Action: specs.ActErrno, Args: cond(specs.OpEqualTo, 6)}), "amd64", fs.ErrInvalid, "index 6"},
		{"empty name", allow(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActErrno}), "amd64", fs.ErrInvalid, "empty name"},
		{"errno", allow(specs.LinuxSyscall{Names: []string{"mount"}, Action: specs.ActErrno, ErrnoRet: errno(1 << 16)}), "amd64", fs.ErrInvalid, "65536"},
		{"flag", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"FAST"}}, "amd64", fs.ErrInvalid, `"FAST"`},
		{"wait flag", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}, "amd64", errors.ErrUnsupported, "WAIT_KILLABLE"},
		{"architecture", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}, "amd64", fs.ErrInvalid, `"SCMP_ARCH_VAX"`},
		{"no table", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchS390X}}, "amd64", errors.ErrUnsupported, "SCMP_ARCH_S390X"},
		{"GOARCH", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "riscv64", errors.ErrUnsupported, "riscv64"},
		{"too long", allow(many...), "amd64", errors.ErrUnsupported, "4096"},
	} {
		_, _, err := Compile(c.p, c.arch)
		if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %v, want kind %v and text %q", c.name, err, c.kind, c.text)
		}
	}
}

func TestBlockingTheRuntimeIsRefused(t *testing.T) {
	deny := func(name string, action specs.LinuxSeccompAction, no uint, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{name}, Action: action, ErrnoRet: &no, Args: args}}}
	}
	arg0 := func(op specs.LinuxSeccompOperator, v uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 0, Op: op, Value: v}
	}
	for _, c := range []struct {
		name string
		p    *specs.LinuxSeccomp
		want string // in the error; empty: accepted
	}{
		{"setuid", deny("setuid", specs.ActErrno, 1), "setuid (SCMP_ACT_ERRNO 1)"},
		{"traced setuid", deny("setuid", specs.ActTrace, 1), "setuid (SCMP_ACT_TRACE)"},
		{"setuid of 7 only", deny("setuid", specs.ActErrno, 1, arg0(specs.OpEqualTo, 7)), "setuid"},
		{"logged setuid", deny("setuid", specs.ActLog, 1), ""},
		{"chmod", deny("chmod", specs.ActKill, 1), ""},
		{"openat2 falls back", deny("openat2", specs.ActErrno, 38), ""},
		{"openat2 kills", deny("openat2", specs.ActKillProcess, 0), "openat2 (SCMP_ACT_KILL_PROCESS)"},
		{"faccessat2 EINVAL", deny("faccessat2", specs.ActErrno, 22), "faccessat2"},
		{"faccessat2 EPERM", deny("faccessat2", specs.ActErrno, 1), ""},
		{"prctl not needed", deny("prctl", specs.ActErrno, 1, arg0(specs.OpEqualTo, 15)), ""},
		{"prctl needed", deny("prctl", specs.ActErrno, 1, arg0(specs.OpEqualTo, 24)), "prctl"},
		{"all by default", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, "capget (SCMP_ACT_ERRNO 1)"},
		{"newer than the profile", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActAllow}}}, "getdents64 (SCMP_ACT_ERRNO 38)"},
	} {
		_, _, err := Compile(c.p, "amd64")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	for _, goarch := range []string{"amd64", "arm64"} {
		p := defaultFor(t)
		p.Architectures = nil
		if _, _, err := Compile(p, goarch); err != nil {
			t.Errorf("the default profile on %s: %v", goarch, err)
		}
	}
}

// TestNeedsExist guards against a name that no table has, which would be
// skipped in silence.
func TestNeedsExist(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		a, _ := abiOf(nativeArch[goarch])
		for _, name := range Required() {
			if _, ok := a.numbers()[name]; !ok {
				t.Errorf("%s has no %s", goarch, name)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		{nil, FlagSpecAllow},
		{[]specs.LinuxSeccompFlag{}, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, "SECCOMP_FILTER_FLAG_TSYNC"}, FlagLog},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, FlagLog | FlagSpecAllow},
	} {
		_, got, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: c.flags}, "amd64")
		if err != nil || got != c.want {
			t.Errorf("%v: flags %#x, %v; want %#x", c.flags, got, err, c.want)
		}
	}
}

func TestParseDockerFormat(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}}}
	p, err := Parse([]byte(`{
		"defaultAction": "SCMP_ACT_ALLOW",
		"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
		"syscalls": [
			{"names": ["chown"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
			{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
			{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "3.1"}},
			{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
			{"name": "swapon", "action": "SCMP_ACT_ERRNO", "args": []}
		]}`), spec)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range p.Syscalls {
		names = append(names, s.Names...)
	}
	if want := []string{"ptrace", "swapon"}; !slices.Equal(names, want) {
		t.Errorf("rules for %v, want %v", names, want)
	}
	for _, bad := range []string{"", "{", "{}", `{"defaultAction": 5}`, `{"defaultAction":"SCMP_ACT_ALLOW"} trailing`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"name":"b"}]}`} {
		if _, err := Parse([]byte(bad), nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := Default(nil); err != nil {
		t.Errorf("default without capabilities: %v", err)
	}
}

// TestTableMatchesModule keeps syscalls.txt in step with the module that it
// was made from. gen.go says why the exceptions are some.
func TestTableMatchesModule(t *testing.T) {
	for i, info := range []*arch.Info{arch.X86_64, arch.X32, arch.I386, arch.AARCH64, arch.ARM} {
		a := abis[i]
		ours := a.numbers()
		if a.audit != uint32(info.ID) {
			t.Errorf("%s: AUDIT_ARCH %#x, module %#x", a.arch, a.audit, uint32(info.ID))
		}
		var missing []string
		for nr, name := range info.SyscallNumbers {
			if have, ok := ours[name]; !ok {
				missing = append(missing, fmt.Sprint(name, " ", nr))
			} else if have != uint32(nr)|a.bit && !(a.arch == specs.ArchX32 && have&^a.bit >= 512) {
				t.Errorf("%s: %s is %d, module %d", a.arch, name, have, nr)
			}
		}
		if want := map[specs.Arch]int{specs.ArchX32: 13, specs.ArchAARCH64: 21}[a.arch]; len(missing) != want {
			slices.Sort(missing)
			t.Errorf("%s lacks %q", a.arch, missing)
		}
		for name, nr := range newest {
			if ours[name] != nr|a.bit {
				t.Errorf("%s: %s is %d", a.arch, name, ours[name])
			}
		}
	}
}

var newest = map[string]uint32{"file_getattr": 468, "file_setattr": 469, "open_tree_attr": 467, "mseal": 462}

func BenchmarkCompileDefault(b *testing.B) {
	p := defaultFor(b)
	for b.Loop() {
		if _, _, err := Compile(p, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}
