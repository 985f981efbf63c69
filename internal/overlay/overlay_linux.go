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

// errNoAppend: this kernel takes the layers as one string only.
var errNoAppend = errors.New("lowerdir+ is not known")

// Open makes the overlay as a mount that is attached nowhere: it is reached
// through the returned descriptor and goes with it. On kernels before 6.5 it
// can have 14 layers.
func Open(l Layers) (*os.File, error) {
	if err := prepare(l); err != nil {
		return nil, err
	}
	if l.Upper == "" && len(l.Lower) == 1 {
		return single(l.Lower[0]) // no overlay has one layer alone
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
	held, err := configure(fs, l)
	defer closeAll(held)
	if err != nil {
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
	if errors.Is(err, errNoAppend) {
		return mountLegacy(target, l)
	}
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
	if err := os.Mkdir(l.Work, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fault.Opaque(err)
	}
	if err := makeUpper(l.Upper, l.Lower[0]); err != nil {
		return fault.Opaque(err)
	}
	err := os.RemoveAll(filepath.Join(l.Work, "work", "incompat", "volatile"))
	return fault.Opaque(err)
}

// configure returns the descriptors that must stay open until the overlay is
// made: kernels before 6.5 look at the paths only then.
// makeUpper makes the writable directory like the root of the top layer, whose
// mode and owner it hides. It is complete when it gets its name.
func makeUpper(upper, top string) error {
	if _, err := os.Lstat(upper); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(top, &st); err != nil {
		return &os.PathError{Op: "stat", Path: top, Err: err}
	}
	half := upper + ".new"
	if err := os.Mkdir(half, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Chown(half, int(st.Uid), int(st.Gid)); err != nil {
		return &os.PathError{Op: "chown", Path: half, Err: err}
	}
	if err := unix.Chmod(half, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: half, Err: err}
	}
	return os.Rename(half, upper)
}

func configure(fs int, l Layers) (held []int, err error) {
	held, err = openAll(l.Lower)
	if err != nil {
		return nil, err
	}
	if err := lower(fs, held); err != nil {
		return held, err
	}
	if l.Upper == "" {
		return held, nil
	}
	writable, err := openAll([]string{l.Upper, l.Work})
	held = append(held, writable...)
	if err != nil {
		return held, err
	}
	// By descriptor: a string of fsconfig ends at 256 bytes.
	for i, key := range []string{"upperdir", "workdir"} {
		if err := unix.FsconfigSetString(fs, key, procPath(writable[i])); err != nil {
			return held, fmt.Errorf("%s: %w", key, err)
		}
	}
	if l.Volatile {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil && !errors.Is(err, unix.EINVAL) {
			return held, fmt.Errorf("volatile: %w", err)
		}
	}
	return held, nil
}

func openAll(dirs []string) (fds []int, err error) {
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(fds)
			return nil, fault.Opaque(&os.PathError{Op: "open layer", Path: dir, Err: err})
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func joined(fds []int) string {
	names := make([]string, len(fds))
	for i, fd := range fds {
		names[i] = procPath(fd)
	}
	return strings.Join(names, ":")
}

// single is a read-only copy of the mount at dir, attached nowhere.
func single(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "open_tree", Path: dir, Err: err})
	}
	f := os.NewFile(uintptr(fd), dir)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.ENOSYS) { // before 5.12 the mount's user must not write
		f.Close()
		return nil, fault.Opaque(&os.PathError{Op: "mount_setattr", Path: dir, Err: err})
	}
	return f, nil
}

// legacyOptions is the page that mount(2) passes, and its end.
const legacyOptions = 4095

// mountLegacy mounts with mount(2): names of descriptors are short, so that
// some 200 layers fit into its page.
func mountLegacy(target string, l Layers) error {
	fds, err := openAll(l.Lower)
	if err != nil {
		return err
	}
	defer closeAll(fds)
	options := "lowerdir=" + joined(fds)
	if l.Upper != "" {
		writable, err := openAll([]string{l.Upper, l.Work})
		if err != nil {
			return err
		}
		defer closeAll(writable)
		options += ",upperdir=" + procPath(writable[0]) + ",workdir=" + procPath(writable[1])
		if l.Volatile {
			options += ",volatile" // 5.10, our floor
		}
	}
	if len(options) > legacyOptions {
		return fault.Unsupported("an image of %d layers needs Linux 6.5 or newer (lowerdir+)", len(l.Lower))
	}
	if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount %d layers on %s: %w", len(l.Lower), target, err)
	}
	return nil
}

// lower adds the layers one by one; kernels that cannot take them only as one
// string, of 256 bytes.
func lower(fs int, fds []int) error {
	appends, err := canAppend()
	if err != nil {
		return err
	}
	if all := joined(fds); !appends && len(all) <= 255 {
		return unix.FsconfigSetString(fs, "lowerdir", all)
	}
	if !appends {
		return fault.Kind(errNoAppend, "%w", fault.Unsupported("an image of %d layers needs Linux 6.5 or newer here (lowerdir+)", len(fds)))
	}
	for i, fd := range fds {
		if err := unix.FsconfigSetString(fs, "lowerdir+", procPath(fd)); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(fds), err)
		}
	}
	return nil
}

// canAppend asks a context that is thrown away whether it knows lowerdir+.
// Overlays of before 6.5 have no contexts of their own: the kernel's stand-in
// collects any option and refuses all of them at the end, so one that takes
// nonsense too has understood nothing.
func canAppend() (bool, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, os.NewSyscallError("fsopen overlay", err)
	}
	defer unix.Close(fs)
	if unix.FsconfigSetFlag(fs, "no-such-option") == nil {
		return false, nil
	}
	return unix.FsconfigSetString(fs, "lowerdir+", "/") == nil, nil
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
