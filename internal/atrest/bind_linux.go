package atrest

import (
	"errors"
	"os"
	"path"
	"slices"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/rootdir"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bind mounts one volume, directory or file of the host. What is made for a
// run only, such as the files in /etc before the first, is left out.
func (v *view) bind(m *specs.Mount) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if slices.Contains(m.Options, "rbind") {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fault.Opaque(&os.PathError{Op: "open_tree", Path: m.Source, Err: err})
	}
	defer unix.Close(tree)
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	target, err := v.mountpoint(m.Destination, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if target == nil || err != nil {
		return err
	}
	defer target.Close()
	ro := slices.Contains(m.Options, "ro")
	var late bool
	if ro {
		at := uint(unix.AT_EMPTY_PATH)
		if slices.Contains(m.Options, "rro") {
			at |= unix.AT_RECURSIVE
		}
		err := unix.MountSetattr(tree, "", at, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if late = errors.Is(err, unix.ENOSYS); err != nil && !late {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	err = unix.MoveMount(tree, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	if late { // before Linux 5.12
		top, err := inRoot(v.dir, m.Destination, 0)
		if err != nil {
			return err
		}
		defer top.Close()
		err = unix.Mount("", procPath(top), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		return os.NewSyscallError("mount(MS_RDONLY)", err)
	}
	return nil
}

// mountpoint finds where a mount goes, and makes it as a start would. It is
// nil where one is missing that cannot be made without writing.
func (v *view) mountpoint(name string, dir bool) (*os.File, error) {
	f, err := inRoot(v.dir, name, 0)
	if !errors.Is(err, unix.ENOENT) {
		return f, fault.Opaque(err)
	}
	if !v.opts.Write && (v.rec.Rootfs != "" || v.rec.Copy) {
		return nil, nil
	}
	dup, err := unix.FcntlInt(v.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	root := rootdir.New(os.NewFile(uintptr(dup), "root"))
	defer root.Close()
	where := path.Clean(name)
	if !dir {
		where = path.Dir(where)
	}
	parent, err := root.Descend(where)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	if dir {
		return os.NewFile(uintptr(parent), where), nil
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "create", Path: name, Err: err})
	}
	unix.Close(fd)
	f, err = inRoot(v.dir, name, 0)
	return f, fault.Opaque(err)
}
