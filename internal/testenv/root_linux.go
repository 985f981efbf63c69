package testenv

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Root is called by tests that need root on Linux. Elsewhere they skip, with
// the reason. As root on Linux nothing may be missing: the test fails and says
// what and how to get it, so that no machine passes by skipping everything.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run go test as root to really test this")
	}
	if err := requirements(); err != nil {
		t.Fatal(err)
	}
}

// requirements are probed once for each process.
var requirements = sync.OnceValue(func() error {
	return errors.Join(privileged(), overlay(), cgroups())
})

func privileged() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for name, bit := range map[string]uint{"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_MKNOD": unix.CAP_MKNOD} {
		if data[bit/32].Effective&(1<<(bit%32)) == 0 {
			return fmt.Errorf("root without %s cannot run containers: run the tests on a host or in a privileged container", name)
		}
	}
	return nil
}

func overlay() error {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(data)), "overlay") {
		return errors.New("the kernel does not know overlayfs: modprobe overlay")
	}
	return nil
}

func cgroups() error {
	for _, m := range mounts() {
		if _, kind, _ := strings.Cut(m.line, " - "); strings.HasPrefix(kind, "cgroup") {
			return nil
		}
	}
	return errors.New("no cgroup file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
}
