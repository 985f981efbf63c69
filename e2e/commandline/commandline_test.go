package commandline

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestCommandLine runs a container of Debian's static busybox by the program
// that users build, from an empty store.
func TestCommandLine(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("containers need root on Linux")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("Debian's busybox-static is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "bin", "amphora")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./examples/amphora").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	rootfs := filepath.Join(dir, "rootfs.tar")
	if err := os.WriteFile(rootfs, rootfsOf(t, busybox), 0o644); err != nil {
		t.Fatal(err)
	}
	amphora := func(args ...string) (stdout string, code int) {
		t.Helper()
		var out, stderr bytes.Buffer
		cmd := exec.Command(program, append([]string{"-root", filepath.Join(dir, "root"), "-state", filepath.Join(dir, "state")}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if stderr.Len() > 0 {
			t.Logf("amphora %v: %s", args, stderr.String())
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	if _, code := amphora("import", rootfs, "box"); code != 0 {
		t.Fatalf("import ended with %d", code)
	}
	out, code := amphora("run", "--rm", "--network", "none", "box", "sh", "-c", "echo hello; exit 3")
	if out != "hello\n" || code != 3 {
		t.Errorf("run printed %q and ended with %d, want hello and 3", out, code)
	}
	if out, code := amphora("ps", "-a", "-q"); out != "" || code != 0 {
		t.Errorf("after --rm there is %q (%d)", out, code)
	}
}

// rootfsOf is a tar of a root filesystem with busybox and a shell.
func rootfsOf(t *testing.T, busybox string) []byte {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "busybox", Mode: 0o777}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
