//go:build linux && (amd64 || arm64)

package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary runs itself as the process that gets a filter: its first
// argument says so. It reads a cached file and calls from stdin, and prints
// the error number of each call.
const probeArg = "-amphora-seccomp-probe"

type probe struct {
	Name string
	Nr   uintptr
	Args [6]uintptr
	Want syscall.Errno `json:"-"`
}

type probeInput struct {
	File   []byte
	NNP    bool
	Probes []probe
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == probeArg {
		if err := runProbes(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runProbes() error {
	runtime.LockOSThread()
	var in probeInput
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	prog, flags, err := Decode(in.File)
	if err != nil {
		return err
	}
	if in.NNP {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := Install(prog, flags); err != nil {
		return err
	}
	results := make([]syscall.Errno, len(in.Probes))
	for i, p := range in.Probes {
		_, _, results[i] = unix.RawSyscall6(p.Nr, p.Args[0], p.Args[1], p.Args[2], p.Args[3], p.Args[4], p.Args[5])
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", unix.Gettid()))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"results": results, "status": string(status)})
}

// runProbe starts this test binary as the given user.
func runProbe(t *testing.T, in probeInput, cred *syscall.Credential) ([]byte, error) {
	t.Helper()
	exe, err := os.Open("/proc/self/exe") // the user may be unable to reach its path
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3", probeArg)
	cmd.ExtraFiles = []*os.File{exe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		json.NewEncoder(stdin).Encode(in)
		stdin.Close()
	}()
	stderr, _ := cmd.StderrPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	complaint := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(stderr)
		complaint <- b
	}()
	out, _ := io.ReadAll(stdout)
	said := <-complaint
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return out, nil
}

func cachedFile(t *testing.T, p *specs.LinuxSeccomp) []byte {
	t.Helper()
	path, err := Cached(t.Context(), t.TempDir(), p, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

func defaultProbes() []probe {
	bad := ^uintptr(0) // a descriptor, a pointer or a flag that no call takes
	probes := []probe{
		{"getpid", unix.SYS_GETPID, [6]uintptr{}, 0},
		{"unshare", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
		{"mount", unix.SYS_MOUNT, [6]uintptr{}, unix.EPERM},
		{"keyctl", unix.SYS_KEYCTL, [6]uintptr{bad}, unix.EPERM},
		{"bpf", unix.SYS_BPF, [6]uintptr{bad}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, [6]uintptr{}, unix.ENOSYS},
		{"clone of a user namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWUSER | unix.CLONE_FS}, unix.EPERM},
		{"clone that fails later", unix.SYS_CLONE, [6]uintptr{unix.CLONE_THREAD}, unix.EINVAL},
		{"personality", unix.SYS_PERSONALITY, [6]uintptr{0xffffffff}, 0},
		{"personality READ_IMPLIES_EXEC", unix.SYS_PERSONALITY, [6]uintptr{0x0400000}, unix.EPERM},
		{"AF_VSOCK", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"AF_UNIX with a bad type", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, 77}, unix.EINVAL},
		{"AF_VSOCK below junk", unix.SYS_SOCKET, [6]uintptr{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"unknown number", 9999, [6]uintptr{}, unix.ENOSYS},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [6]uintptr{}, unix.EPERM},
		{"ptrace", unix.SYS_PTRACE, [6]uintptr{bad}, unix.ESRCH}, // allowed: the kernel's own answer
	}
	if runtime.GOARCH == "amd64" {
		probes = append(probes,
			probe{"x32 with a number above all", uintptr(x32Bit) + 9999, [6]uintptr{}, unix.ENOSYS},
			probe{"x32 unshare", uintptr(x32Bit) + unix.SYS_UNSHARE, [6]uintptr{}, unix.EPERM})
	}
	return probes
}

func TestInstalledDefaultFilter(t *testing.T) {
	in := probeInput{File: cachedFile(t, defaultFor(t)), NNP: true, Probes: defaultProbes()}
	var cred *syscall.Credential
	if os.Getuid() == 0 {
		cred = nobody
	}
	out, err := runProbe(t, in, cred)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Results []syscall.Errno
		Status  string
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for i, p := range in.Probes {
		if got.Results[i] != p.Want {
			t.Errorf("%s: errno %d (%v), want %d (%v)", p.Name, got.Results[i], got.Results[i], p.Want, p.Want)
		}
	}
	if !strings.Contains(got.Status, "\nSeccomp:\t2\n") {
		t.Errorf("no filter according to the kernel:\n%s", got.Status)
	}
}

func TestInstallWithoutPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	_, err := runProbe(t, probeInput{File: cachedFile(t, tiny(specs.ActErrno))}, nobody)
	if err == nil {
		t.Fatal("installed a filter without CAP_SYS_ADMIN and without no_new_privs")
	}
	t.Log(err)
}

func TestKilledByFilter(t *testing.T) {
	in := probeInput{File: cachedFile(t, tiny(specs.ActKillProcess)), NNP: true, Probes: []probe{{Name: "mount", Nr: unix.SYS_MOUNT}}}
	_, err := runProbe(t, in, nil)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("ended with %v, want SIGSYS", err)
	}
}

func TestInstallRefusesNonsense(t *testing.T) {
	for _, n := range []int{0, 7, 8 * 4097} {
		if err := Install(make([]byte, n), 0); err == nil {
			t.Fatalf("installed %d bytes", n)
		}
	}
	// The kernel refuses a program that does not end in a return; this thread
	// stays as it is.
	if err := Install(make([]byte, 8), 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("zeros: %v", err)
	}
}
