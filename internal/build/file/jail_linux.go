package file

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// jail is a thread whose root directory is the tree that is written. Paths of
// functions that it runs mean that tree when they begin with "/", else the
// tree that is read. It has a umask of 0, so that modes are what they are said
// to be.
type jail struct {
	calls chan func()
	done  chan error
}

func newJail(root *os.File) (*jail, error) {
	j := &jail{calls: make(chan func()), done: make(chan error, 1)}
	ready := make(chan error)
	go j.run(root, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return j, nil
}

func (j *jail) run(root *os.File, ready chan<- error) {
	runtime.LockOSThread() // for ever: the thread ends with this goroutine
	host, err := enter(root)
	ready <- err
	if err != nil {
		return
	}
	for f := range j.calls {
		f()
	}
	// The mounts must be free when close returns, not when the kernel is done
	// with the thread.
	err = errors.Join(unix.Fchdir(host), unix.Chroot("."), unix.Close(host))
	j.done <- err
}

func enter(root *os.File) (host int, err error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	unix.Umask(0)
	host, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open /", err)
	}
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		unix.Close(host)
		return -1, os.NewSyscallError("fchdir", err)
	}
	if err := unix.Chroot("."); err != nil {
		unix.Close(host)
		if errors.Is(err, unix.EPERM) {
			return -1, fault.Privilege("changing the root directory needs CAP_SYS_CHROOT: run as root")
		}
		return -1, os.NewSyscallError("chroot", err)
	}
	return host, nil
}

// do runs f in the jail, with source as its working directory.
func (j *jail) do(source *os.File, f func() error) error {
	answer := make(chan error, 1)
	j.calls <- func() {
		if err := unix.Fchdir(int(source.Fd())); err != nil {
			answer <- os.NewSyscallError("fchdir", err)
			return
		}
		answer <- f()
	}
	return <-answer
}

// blind is do for a source that is a bare directory of a layer: what the
// overlay notes there in trusted.* attributes is of no concern to others, and
// without CAP_SYS_ADMIN it is not seen.
func (j *jail) blind(source *os.File, f func() error) error {
	return j.do(source, func() (err error) {
		restore, err := withoutAdmin()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, restore()) }()
		return f()
	})
}

// withoutAdmin takes CAP_SYS_ADMIN out of the effective set of this thread.
func withoutAdmin() (restore func() error, err error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before, now [2]unix.CapUserData
	if err := unix.Capget(&head, &before[0]); err != nil {
		return nil, os.NewSyscallError("capget", err)
	}
	now = before
	now[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&head, &now[0]); err != nil {
		return nil, os.NewSyscallError("capset", err)
	}
	return func() error {
		return os.NewSyscallError("capset", unix.Capset(&head, &before[0]))
	}, nil
}

func (j *jail) close() error {
	close(j.calls)
	return <-j.done
}

// clone is a read-only mount of dir and of all that is mounted below it,
// attached nowhere.
func clone(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "open_tree", Path: dir, Err: err})
	}
	f := os.NewFile(uintptr(fd), dir)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.ENOSYS) { // before 5.12 only the copy itself keeps from writing
		f.Close()
		return nil, fault.Opaque(&os.PathError{Op: "mount_setattr", Path: dir, Err: err})
	}
	return f, nil
}

// mountsBelow says whether anything is mounted below dir.
func mountsBelow(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, fault.Opaque(err)
	}
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return false, fault.Opaque(fmt.Errorf("list mounts: %w", err))
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(unescape(fields[4]), strings.TrimSuffix(dir, "/")+"/") {
			return true, nil
		}
	}
	return false, fault.Opaque(lines.Err())
}

// unescape undoes what mountinfo does to spaces, tabs, newlines and
// backslashes: three octal digits.
func unescape(s string) string {
	for i := 0; ; i++ {
		at := strings.IndexByte(s[i:], '\\')
		if i += at; at < 0 || i+4 > len(s) {
			return s
		}
		if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			s = s[:i] + string(rune(c)) + s[i+4:]
		}
	}
}
