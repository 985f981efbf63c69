package cgroup2

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	busybox = "/bin/busybox"    // package busybox-static
	bootMax = 20 * time.Minute  // an emulated machine on a busy one
	cache   = "../out/cgroup2/" // packages and serial logs; not in git
)

// tools says what is missing, all at once.
func tools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("emulating a machine takes minutes")
	}
	var missing []string
	for program, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", busybox: "busybox-static", "mke2fs": "e2fsprogs", "dpkg-deb": "dpkg", "apt-get": "apt"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if missing != nil {
		t.Skipf("missing; on Debian: apt-get install %s", strings.Join(missing, " "))
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string, arg ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arg, " "), err, out)
	}
	return string(out)
}

// linux is an unpacked kernel package.
type linux struct{ dir, version string }

func (l linux) image() string { return filepath.Join(l.dir, "boot/vmlinuz-"+l.version) }

func (l linux) module(name string) string {
	return filepath.Join(l.dir, "lib/modules", l.version, "kernel", name)
}

var kernelName = regexp.MustCompile(`linux-image-(6\.1\.0-\d+-cloud-amd64)`)

// kernel fetches Debian 12's kernel and unpacks it; it is not installed here.
func kernel(t *testing.T) linux {
	t.Helper()
	found := kernelName.FindStringSubmatch(command(t, "apt-cache", "depends", "linux-image-cloud-amd64"))
	if found == nil {
		t.Fatal("apt knows no kernel package 6.1 for the cloud: run apt-get update, on Debian 12")
	}
	l := linux{dir: filepath.Join(cache, found[0]), version: found[1]}
	if _, err := os.Stat(l.image()); err == nil {
		return l
	}
	if debs, _ := filepath.Glob(cache + found[0] + "_*.deb"); debs == nil {
		cmd := exec.CommandContext(t.Context(), "apt-get", "download", found[0])
		cmd.Dir = cache
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apt-get download: %v\n%s", err, out)
		}
	}
	debs, _ := filepath.Glob(cache + found[0] + "_*.deb")
	if debs == nil {
		t.Fatal("apt-get downloaded nothing")
	}
	command(t, "dpkg-deb", "-x", debs[0], l.dir)
	return l
}

// debian is a tar of a small system with systemd and dbus.
func debian(t *testing.T) string {
	t.Helper()
	path := filepath.Join(cache, "debian.tar")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	arg := []string{"--variant=essential", "--include=systemd,systemd-sysv,dbus", "--format=tar"}
	for _, dir := range []string{"doc", "man", "locale"} {
		arg = append(arg, "--dpkgopt=path-exclude=/usr/share/"+dir+"/*")
	}
	command(t, "mmdebstrap", append(arg, "bookworm", path+".new", "deb http://deb.debian.org/debian bookworm main")...)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

var guestOnce = sync.OnceValues(func() (string, error) {
	path := cache + "guest"
	cmd := exec.Command("go", "build", "-o", path, "-tags", "netgo,osusergo", "-ldflags", "-s -w -extldflags -static", "./guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return path, err
})

func guestProgram(t *testing.T) string {
	t.Helper()
	path, err := guestOnce()
	if err != nil {
		t.Fatalf("build the guest: %v", err)
	}
	return path
}

// boot runs the machine until it ends and judges what it said.
func boot(t *testing.T, name string, k linux, initramfs, disk string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootMax)
	defer cancel()
	arg := []string{"-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", k.image(), "-initrd", initramfs,
		"-append", "console=ttyS0 panic=-1 quiet loglevel=3 systemd.show_status=0"}
	if disk != "" {
		arg = append(arg, "-drive", "file="+disk+",format=raw,if=none,id=disk,cache=unsafe",
			"-device", "nvme,serial=disk,drive=disk") // its driver is built into Debian's cloud kernel
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", arg...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	log, err := os.Create(cache + name + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := judge(t, console, log)
	if err := cmd.Wait(); err != nil {
		t.Errorf("qemu: %v", err)
	}
	if !ended {
		t.Errorf("the guest did not come to its end; see e2e/out/cgroup2/%s.log", name)
	}
}

// judge reads the serial console: what failed, and whether the end was reached.
func judge(t *testing.T, console interface{ Read([]byte) (int, error) }, log *os.File) (ended bool) {
	s := bufio.NewScanner(console)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		log.WriteString(s.Text() + "\n")
		_, said, ok := strings.Cut(strings.TrimRight(s.Text(), "\r"), "e2e: ")
		if !ok {
			continue
		}
		switch {
		case strings.HasPrefix(said, "FAIL "):
			t.Error(said)
		case said == "END ok":
			ended = true
		default:
			t.Log(said)
		}
	}
	return ended
}
