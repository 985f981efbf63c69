package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"golang.org/x/sys/unix"
)

// Open makes the overlay as a mount that is attached nowhere: it is reached
// through the returned descriptor and goes with it.
func Open(l Layers) (*os.File, error) {
	if err := prepare(l); err != nil {
		return nil, err
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil, fault.Unsupported("this kernel has no overlay file system: load the module overlay (modprobe overlay)")
		}
		if errors.Is(err, unix.EPERM) {
			return nil, fault.Privilege("mounting needs CAP_SYS_ADMIN: run as root")
		}
		return nil, os.NewSyscallError("fsopen overlay", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, l); err != nil {
		return nil, explain(fs, l, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, explain(fs, l, fmt.Errorf("create the overlay: %w", err))
	}
	mfd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, explain(fs, l, fmt.Errorf("fsmount: %w", err))
	}
	return os.NewFile(uintptr(mfd), "overlay"), nil
}

// Mount attaches the overlay at target in this mount namespace.
func Mount(target string, l Layers) error {
	f, err := Open(l)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "attach overlay", Path: target, Err: err}
	}
	return nil
}

// prepare makes the writable directories. The mark that a volatile mount
// leaves forbids another one: within one boot nothing was lost, so it goes.
// (Of another boot, the caller threw Upper away.)
func prepare(l Layers) error {
	if len(l.Lower) == 0 {
		return fault.Invalid("an overlay needs at least one layer")
	}
	if l.Upper == "" {
		return nil
	}
	for _, dir := range []string{l.Upper, l.Work} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fault.Opaque(err)
		}
	}
	err := os.RemoveAll(filepath.Join(l.Work, "work", "incompat", "volatile"))
	return fault.Opaque(err)
}

func configure(fs int, l Layers) error {
	var fds []string
	for _, dir := range l.Lower {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fault.Opaque(&os.PathError{Op: "open layer", Path: dir, Err: err})
		}
		defer unix.Close(fd)
		fds = append(fds, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	if err := lower(fs, fds); err != nil {
		return err
	}
	if l.Upper == "" {
		return nil
	}
	for _, kv := range [][2]string{{"upperdir", l.Upper}, {"workdir", l.Work}} {
		fd, err := unix.Open(kv[1], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fault.Opaque(&os.PathError{Op: "open", Path: kv[1], Err: err})
		}
		defer unix.Close(fd)
		// By descriptor: a string of fsconfig ends at 256 bytes.
		if err := unix.FsconfigSetString(fs, kv[0], fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
			return fmt.Errorf("%s=%s: %w", kv[0], kv[1], err)
		}
	}
	if l.Volatile {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("volatile: %w", err)
		}
	}
	return nil
}

// lower adds the layers one by one; kernels before 6.5 take them only as one
// string, of 256 bytes.
func lower(fs int, fds []string) error {
	for i, fd := range fds {
		err := unix.FsconfigSetString(fs, "lowerdir+", fd)
		if err == nil {
			continue
		}
		if i > 0 || !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(fds), err)
		}
		all := strings.Join(fds, ":")
		if len(all) > 255 {
			return fault.Unsupported("an image of %d layers needs Linux 6.5 or newer (lowerdir+)", len(fds))
		}
		return unix.FsconfigSetString(fs, "lowerdir", all)
	}
	return nil
}

// explain adds what the kernel wrote to the context's log.
func explain(fs int, l Layers, err error) error {
	buf := make([]byte, 4096)
	var lines []string
	for {
		n, e := unix.Read(fs, buf)
		if e != nil || n <= 0 {
			break
		}
		lines = append(lines, strings.TrimSpace(string(buf[:n])))
	}
	if len(lines) > 0 {
		err = fmt.Errorf("%w (kernel: %s)", err, strings.Join(lines, "; "))
	}
	return fmt.Errorf("mount %d layers on %s: %w", len(l.Lower), l.Upper, err)
}
