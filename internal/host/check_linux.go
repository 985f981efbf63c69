package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/reexec"
	"golang.org/x/sys/unix"
)

// Capability numbers of linux/capability.h.
const (
	capSysAdmin    = 21
	capSysResource = 24
)

// Check lists what this machine lacks for containers of a store in root, whose
// control groups lie below parent, or where they are by default.
func Check(root, parent string) []Finding {
	var c checker
	c.program()
	c.kernel()
	c.groups(parent)
	c.overlay(root)
	c.security()
	return c.found
}

type checker struct{ found []Finding }

func (c *checker) need(name, cure, format string, args ...any) {
	c.found = append(c.found, Finding{Name: name, Problem: fmt.Sprintf(format, args...), Cure: cure, Needed: true})
}

func (c *checker) note(name, cure, format string, args ...any) {
	c.found = append(c.found, Finding{Name: name, Problem: fmt.Sprintf(format, args...), Cure: cure})
}

// program looks at this build and process.
func (c *checker) program() {
	if !reexec.Supported {
		c.need("cgo", "build with CGO_ENABLED=1 and a C compiler, or set Options.Helper to an amphora-helper built so",
			"this program was built without cgo, which libcontainer's namespace code needs")
	}
	caps := effective()
	if caps&(1<<capSysAdmin) == 0 {
		c.need("privilege", "run as root", "this process lacks CAP_SYS_ADMIN: it can mount and unshare nothing")
	} else if caps&(1<<capSysResource) == 0 {
		c.note("CAP_SYS_RESOURCE", "grant it to this process if containers need more",
			"missing: ulimits above this process's own are lowered to them, and OOM scores cannot be lowered")
	}
	if os.Getpid() == 1 {
		c.note("pid 1", "run the program under an init process, such as docker run --init",
			"this process is the first of its pid namespace: detached containers end with it")
	}
}

func effective() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return 0
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32
}

// kernel compares the version with the floor, and probes what is newer.
func (c *checker) kernel() {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return
	}
	release := unix.ByteSliceToString(u.Release[:])
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(strings.TrimRight(minor, "-+abcdefghijklmnopqrstuvwxyz"))
	newer := func(x, y int) bool { return a > x || a == x && b >= y }
	if !newer(5, 10) {
		c.need("kernel", "boot Linux 5.10 or newer", "Linux %s is older than 5.10", release)
	}
	if !newer(6, 5) {
		c.note("lowerdir+", "boot Linux 6.5 or newer for images of more layers", "Linux %s mounts overlays of at most some 200 layers", release)
	}
	if !Look().RecursiveRO {
		c.note("mount_setattr", "boot Linux 5.12 or newer", "read-only binds leave what is mounted below them writable")
	}
}

// groups looks for the controllers that limits need.
func (c *checker) groups(parent string) {
	have, err := cgroup.Controllers(parent)
	if err != nil {
		c.need("cgroups", "mount -t cgroup2 none /sys/fs/cgroup", "%v", err)
		return
	}
	for _, name := range []string{"memory", "pids", "cpu", "cpuset"} {
		if !have[name] {
			c.note("cgroup controller "+name, "enable it on the kernel's command line, or, where processes occupy the groups above the containers', move those elsewhere or name another group (Options.CgroupParent)",
				"missing: containers with limits of that kind are refused")
		}
	}
	if !Look().SwapLimits {
		c.note("swap limits", "boot with swapaccount=1", "the kernel does not account for swap: limits of it are refused")
	}
}

// overlay tries a mount with the writable layer where containers have theirs.
func (c *checker) overlay(root string) {
	dir, err := os.MkdirTemp(root, ".check-")
	if err != nil {
		c.need("Root", "choose a directory that this process may write (Options.Root)", "%v", err)
		return
	}
	defer os.RemoveAll(dir)
	lower := filepath.Join(dir, "lower")
	if err := os.Mkdir(lower, 0o700); err != nil {
		c.need("Root", "free space on that disk", "%v", err)
		return
	}
	f, err := overlay.Open(overlay.Layers{Lower: []string{lower}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")})
	if err != nil {
		c.need("overlay", "load the module (modprobe overlay), and keep Root on ext4, xfs or btrfs, not on an overlay itself", "%v", err)
		return
	}
	f.Close()
}

// security looks at what confines containers.
func (c *checker) security() {
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); errors.Is(err, unix.EINVAL) {
		c.need("seccomp", "use a kernel with CONFIG_SECCOMP_FILTER", "the kernel has no seccomp: only containers with Seccomp: unconfined can start")
	}
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(b), "Y") {
		c.note("AppArmor", "load a profile and name it in Security.AppArmor", "it is enabled, and no default profile is loaded for containers")
	}
	if b, err := os.ReadFile("/sys/fs/selinux/enforce"); err == nil && strings.HasPrefix(string(b), "1") {
		c.note("SELinux", "run containers on a host without it for now", "it is enforcing, and containers are not labelled")
	}
}
