package archive

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// openRetry repeats an open that a signal interrupted.
func openRetry(open func() (int, error)) (int, error) {
	for {
		fd, err := open()
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openat2 is the system call with O_CLOEXEC and its retries: EAGAIN means
// that a rename elsewhere raced with the resolution.
func openat2(dir int, name string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: resolve}
	for range 1000 {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.ENOSYS || err == unix.EPERM:
			return -1, fault.Unsupported("openat2 is refused here (%v): it needs Linux 5.6 and, inside a container, a seccomp profile that knows it", err)
		}
		return fd, err
	}
	return -1, unix.EAGAIN
}

func readlinkat(dir int, name string) (string, error) {
	var buf [pathMax + 1]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// procPath names an open descriptor, or a component below one, for system
// calls that take paths only. The link of /proc is no ordinary symbolic link:
// it leads to the open file itself.
func procPath(fd int, base ...string) string {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if len(base) > 0 {
		p += "/" + base[0]
	}
	return p
}

// currentUmask is read, not set: the umask belongs to the whole process.
// Where it cannot be read, all bits count as masked, which costs a chmod.
func currentUmask() uint32 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	_, rest, ok := strings.Cut(string(data), "\nUmask:")
	if !ok {
		return 0o777
	}
	line, _, _ := strings.Cut(rest, "\n")
	m, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if err != nil {
		return 0o777
	}
	return uint32(m)
}

// writeAll writes all of b at the descriptor's position.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func pwriteAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// lstat is fstatat that does not follow. missing is true for ENOENT.
func lstat(dir int, name string) (st unix.Stat_t, missing bool, err error) {
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, true, nil
	}
	return st, false, err
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// names lists a directory given any descriptor of it.
func names(fd int) ([]string, error) {
	d, err := openRetry(func() (int, error) {
		return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(d), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

// futimens is utimensat on the descriptor itself, which may not be O_PATH.
func futimens(fd int, ts *[2]unix.Timespec) error {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
