package volumes

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// copyAttributes gives an open file or directory the owner, extended
// attributes, mode and times of another. The order matters: a change of owner
// clears setuid bits and capabilities, and all of it changes times.
func copyAttributes(src, dst *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	fd := int(dst.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	x := xattrs{
		list: func(b []byte) (int, error) { return unix.Flistxattr(int(src.Fd()), b) },
		get:  func(name string, b []byte) (int, error) { return unix.Fgetxattr(int(src.Fd()), name, b) },
		set:  func(name string, b []byte) error { return unix.Fsetxattr(fd, name, b, 0) },
	}
	if err := x.copy(); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return setTimes(dst, &st)
}

func setTimes(f *os.File, st *unix.Stat_t) error {
	err := unix.UtimesNanoAt(int(f.Fd()), "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// attributesAt does the same for what cannot be opened: symbolic links,
// devices, pipes, sockets.
func attributesAt(src, dst *os.File, name string, st *unix.Stat_t) error {
	dir := int(dst.Fd())
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	// These calls take paths only. The descriptor makes the directory certain,
	// and the last part is not followed.
	from := fmt.Sprintf("/proc/self/fd/%d/%s", src.Fd(), name)
	to := fmt.Sprintf("/proc/self/fd/%d/%s", dst.Fd(), name)
	x := xattrs{
		list: func(b []byte) (int, error) { return unix.Llistxattr(from, b) },
		get:  func(name string, b []byte) (int, error) { return unix.Lgetxattr(from, name, b) },
		set:  func(name string, b []byte) error { return unix.Lsetxattr(to, name, b, 0) },
	}
	if err := x.copy(); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if err := unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// xattrs is access to the extended attributes of a source and a copy.
type xattrs struct {
	list func([]byte) (int, error)
	get  func(string, []byte) (int, error)
	set  func(string, []byte) error
}

func (x *xattrs) copy() error {
	names, err := grow(x.list)
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || !kept(name) {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return x.get(name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since
		}
		if err == nil {
			err = x.set(name, value)
		}
		if err != nil {
			return fmt.Errorf("copy attribute %s: %w", name, err)
		}
	}
	return nil
}

// kept says whether an attribute belongs to the content. The others belong to
// the mount or the machine: overlay's marks, which would be obeyed if the
// volume became a layer; labels, which the volume gets by where it is; hashes
// that the kernel keeps itself.
func kept(name string) bool {
	for _, prefix := range []string{"trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

// grow calls f with a buffer until its answer fits. A file system without
// attributes has none.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := f(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return nil, nil
		case errors.Is(err, unix.ERANGE) && len(buf) <= 64<<10:
			buf = make([]byte, 4*len(buf))
		default:
			return nil, err
		}
	}
}
