package cgroup2

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlain runs on a machine without systemd: amphora makes its groups below
// the one it is in. The file system is a tmpfs, as nothing is pivoted out of an
// initramfs.
func TestPlain(t *testing.T) {
	tools(t)
	k := kernel(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "initramfs")
	modules, load := k.modules(t)
	writeInitramfs(t, image, append(modules,
		entry{name: "init", mode: 0o755, data: []byte(strings.Replace(plainInit, "LOAD\n", load, 1))},
		entry{name: "bin/busybox", mode: 0o755, file: busybox},
		entry{name: "bin/guest", mode: 0o755, file: guestProgram(t)},
	))
	boot(t, "plain", k, image, "")
}

const plainInit = `#!/bin/busybox sh
if [ "$1" != second ]; then
	/bin/busybox mkdir -p /new
	/bin/busybox mount -t tmpfs -o mode=755 none /new
	/bin/busybox cp -a /bin /lib /init /new
	/bin/busybox rm /bin/guest
	exec /bin/busybox switch_root /new /init second
fi
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /run /tmp /var/lib /etc
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
LOAD
ip link set lo up
guest plain
poweroff -f
`

// TestSystemd runs on Debian with systemd, from an ext4 disk: amphora's groups
// are in a scope that systemd delegates.
func TestSystemd(t *testing.T) {
	tools(t)
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("mmdebstrap is missing; on Debian: apt-get install mmdebstrap")
	}
	k := kernel(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "initramfs")
	modules, load := k.modules(t)
	writeInitramfs(t, image, append(modules,
		entry{name: "init", mode: 0o755, data: []byte(strings.Replace(diskInit, "LOAD\n", load, 1))},
		entry{name: "bin/busybox", mode: 0o755, file: busybox},
	))
	boot(t, "systemd", k, image, disk(t, dir))
}

const diskInit = `#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /new
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
LOAD
n=0
until [ -b /dev/nvme0n1 ] || [ $n = 100 ]; do sleep 0.1; n=$((n+1)); done
mount -t ext4 /dev/nvme0n1 /new || { echo "e2e: FAIL no disk"; poweroff -f; }
umount /proc
umount /sys
mount -o move /dev /new/dev
exec switch_root /new /lib/systemd/systemd
`

// units are the files of the test in the system.
var units = map[string]string{
	"etc/systemd/system/e2e.service": `[Unit]
Description=amphora under test
[Service]
ExecStart=/usr/bin/guest systemd
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
`,
	"etc/systemd/system/amphora-first.service": `[Unit]
Description=a program that starts containers and stays
[Service]
ExecStart=/usr/bin/guest service
TimeoutStopSec=60
`,
	"etc/fstab":    "",
	"etc/hostname": "guest\n",
}

// disk makes an ext4 image of a small Debian with the guest in it.
func disk(t *testing.T, dir string) string {
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-C", root, "--numeric-owner", "--exclude=./dev/*", "-xf", debian(t))
	for name, text := range units {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "cp", guestProgram(t), filepath.Join(root, "usr/bin/guest"))
	command(t, "cp", busybox, filepath.Join(root, "bin/busybox"))
	links := map[string]string{"etc/systemd/system/multi-user.target.wants/e2e.service": "../e2e.service",
		"etc/systemd/system/default.target": "/lib/systemd/system/multi-user.target"}
	for _, unit := range []string{"getty.target", "systemd-timesyncd.service", "systemd-logind.service", "apt-daily.timer", "fstrim.timer",
		"e2scrub_all.timer", "e2scrub_reap.service", "systemd-pstore.service", "systemd-networkd.service", "systemd-update-utmp.service", "modprobe@.service"} {
		links["etc/systemd/system/"+unit] = "/dev/null"
	}
	for name, target := range links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "disk")
	command(t, "mke2fs", "-q", "-t", "ext4", "-d", root, image, "1G")
	return image
}
