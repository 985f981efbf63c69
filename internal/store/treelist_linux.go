package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// listTree describes every file of a tree, in the order of their names. A
// tree that is given by a symbolic link, as a layer that has another's, is
// that other's.
func listTree(ctx context.Context, dir string) ([]treeEntry, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	var list []treeEntry
	seen := map[inode]string{}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		e, err := listEntry(ctx, dir, path, seen)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, e)
		return nil
	})
	return list, err
}

func listEntry(ctx context.Context, dir, path string, seen map[inode]string) (treeEntry, error) {
	var e treeEntry
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return e, err
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return e, err
	}
	e = treeEntry{Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano()}
	if e.Attrs, err = listAttrs(path); err != nil {
		return e, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return e, nil
	case unix.S_IFLNK:
		e.Link, err = os.Readlink(path)
		return e, err
	case unix.S_IFCHR, unix.S_IFBLK:
		if e.Dev = st.Rdev; e.Dev == 0 {
			e.MTime = 0 // a whiteout: of its unpacking, and nobody sees it
		}
		return e, nil
	case unix.S_IFREG:
		e.Size = st.Size
	default:
		return e, nil
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := seen[id]; ok {
			e.Same = first
			return e, nil
		}
		seen[id] = rel
	}
	e.Sum, err = sumFile(ctx, path)
	return e, err
}

func sumFile(ctx context.Context, path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, &contextReader{ctx, f}, make([]byte, 256<<10)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// listAttrs is one text of all extended attributes, overlay's own included:
// an opaque directory is part of a layer.
func listAttrs(path string) (string, error) {
	buf := make([]byte, 64<<10) // the kernel's limit, also for a value
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return "", fmt.Errorf("attribute %s: %w", name, err)
		}
		fmt.Fprintf(&text, "%s=%x;", name, buf[:n])
	}
	return text.String(), nil
}
