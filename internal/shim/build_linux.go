package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"golang.org/x/sys/unix"
)

// mountBuild mounts what the command of a build sees: trees, secrets, and its
// root with mount points for all of it, none of which is in the layer that
// the command makes.
func (s *shim) mountBuild(b *record.Build) error {
	for i := range b.Trees {
		if err := s.mountTree(&b.Trees[i]); err != nil {
			return err
		}
	}
	if err := s.mountSecrets(b.Secrets); err != nil {
		return err
	}
	step.At("build.trees")
	if err := mkdir(s.rootfs); err != nil {
		return err
	}
	lower, parents, err := s.stubs(b.Root.Lower)
	if err != nil {
		return fmt.Errorf("make mount points: %w", err)
	}
	if err := s.overlay(s.rootfs, lower, b.Root.Upper, b.Root.Work); err != nil {
		return err
	}
	if b.KeepParents {
		return s.keep(parents)
	}
	return nil
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// overlay mounts one, and sees to it that it is unmounted at the end: until
// then Upper is in use, and must become no layer of others.
func (s *shim) overlay(target string, lower []string, upper, work string) error {
	if len(lower) == 0 {
		empty := s.root.Path(s.c.ID, "empty")
		if err := mkdir(empty); err != nil {
			return err
		}
		lower = []string{empty}
	}
	if upper != "" {
		// It gets mode and owner of the root below it when it is made. What is
		// not empty stays: rmdir refuses.
		if err := unix.Rmdir(upper); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
			return &os.PathError{Op: "rmdir", Path: upper, Err: err}
		}
	}
	if err := overlay.Mount(target, overlay.Layers{Lower: lower, Upper: upper, Work: work, Volatile: true}); err != nil {
		return err
	}
	s.mounted = append(s.mounted, target)
	return nil
}

// unmountBuild lets go of everything before the end is told. It must not fail:
// then files would be deleted through the mounts.
func (s *shim) unmountBuild() {
	for len(s.mounted) > 0 {
		last := len(s.mounted) - 1
		if unix.Unmount(s.mounted[last], unix.UMOUNT_NOFOLLOW) != nil {
			unix.Unmount(s.mounted[last], unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		s.mounted = s.mounted[:last]
	}
	step.At("build.unmounted")
}

// mountTree mounts one tree, and the part of it that is wanted.
func (s *shim) mountTree(t *record.Tree) error {
	dir := t.Dir
	if dir == "" {
		dir = s.root.Path(s.c.ID, t.Name)
		if err := mkdir(dir); err != nil {
			return err
		}
		if err := s.overlay(dir, t.Lower, t.Upper, t.Work); err != nil {
			return err
		}
	}
	if t.Selector == "" {
		return nil
	}
	return s.mountPart(dir, t)
}

// mountPart mounts a directory or file of a tree, found without leaving it, so
// that nobody can replace it by something else before the container has it.
func (s *shim) mountPart(dir string, t *record.Tree) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	part, err := unix.Openat2(root, t.Selector, how)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return fault.Invalid("%s is to be mounted, and does not exist in what it is mounted from", t.Selector)
		}
		return &os.PathError{Op: "open", Path: t.Selector, Err: err}
	}
	defer unix.Close(part)
	return s.attach(part, s.root.Path(s.c.ID, t.Selected()))
}

// attach binds what fd is at target, which is made.
func (s *shim) attach(fd int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	err := mkdir(target)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		os.Remove(target)
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	clone, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(clone)
	if err := unix.MoveMount(clone, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "mount", Path: target, Err: err}
	}
	s.mounted = append(s.mounted, target)
	return nil
}

// mountSecrets puts the values that came with the launch into files of a file
// system in memory.
func (s *shim) mountSecrets(secrets []record.Secret) error {
	if len(secrets) == 0 {
		return nil
	}
	if s.launch.Secrets == nil || len(s.launch.Secrets.Files) != len(secrets) {
		return errors.New("a launch request without its secrets")
	}
	dir := s.root.Path(s.c.ID, "secrets")
	if err := mkdir(dir); err != nil {
		return err
	}
	const flags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	err := unix.Mount("secrets", dir, "tmpfs", flags, "mode=0700,noswap") // noswap: Linux 6.4
	if err == unix.EINVAL {
		err = unix.Mount("secrets", dir, "tmpfs", flags, "mode=0700")
	}
	if err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	s.mounted = append(s.mounted, dir)
	for i, secret := range secrets {
		path := s.root.Path(s.c.ID, secret.Name)
		err := os.WriteFile(path, s.launch.Secrets.Files[i], 0o600)
		err = errors.Join(err, os.Chown(path, int(secret.UID), int(secret.GID)), unix.Chmod(path, secret.Mode&0o7777))
		if err != nil {
			return fmt.Errorf("write a secret: %w", err)
		}
	}
	return nil
}
