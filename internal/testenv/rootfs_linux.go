package testenv

import (
	"archive/tar"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func mknod(path string, f File) error {
	kind, ok := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[f.kind()]
	if !ok {
		return fmt.Errorf("tar type %q cannot be exploded", f.kind())
	}
	if os.Geteuid() != 0 && kind != unix.S_IFIFO {
		return nil
	}
	if err := unix.Mknod(path, kind|uint32(f.mode()), int(unix.Mkdev(uint32(f.Major), uint32(f.Minor)))); err != nil {
		return err
	}
	return chmod(path, f.mode()) // the umask had its way before
}

func chmod(path string, mode int64) error { return syscall.Chmod(path, uint32(mode)) }
