package tree

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
)

func digestOf(ctx context.Context, layer string) (digest.Digest, error) {
	fd, err := open(unix.AT_FDCWD, layer, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return "", fault.Opaque(&os.PathError{Op: "open layer", Path: layer, Err: err})
	}
	root, err := read(ctx, fd, true)
	if err != nil {
		return "", fault.Opaque(&os.PathError{Op: "hash layer", Path: layer, Err: err})
	}
	return sum(root), nil
}

func selected(ctx context.Context, lowers []string, path string) (digest.Digest, error) {
	if len(lowers) == 0 {
		if !isRoot(path) {
			return "", fault.NotExist("%q does not exist: the tree is empty", path)
		}
		return sum(&node{mode: unix.S_IFDIR | 0o755}), nil
	}
	root, err := overlay.Open(overlay.Layers{Lower: lowers})
	if err != nil {
		return "", err
	}
	defer root.Close()
	fd, err := inside(root, path)
	if err != nil {
		return "", err
	}
	n, err := read(ctx, fd, false)
	if err != nil {
		return "", fault.Opaque(&os.PathError{Op: "hash", Path: path, Err: err})
	}
	return sum(n), nil
}

func isRoot(path string) bool {
	for _, c := range path {
		if c != '/' && c != '.' {
			return false
		}
	}
	return true // "/..": the root's parent is the root
}

// inside opens what path leads to in the tree: a directory, or a file of which
// only a regular one is opened for reading.
func inside(root *os.File, path string) (int, error) {
	if path == "" {
		path = "/"
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), path, how)
		runtime.KeepAlive(root)
		switch {
		case err == nil:
			return fd, nil
		case err == unix.EINTR || err == unix.EAGAIN: // EAGAIN: something was renamed elsewhere meanwhile
		case err == unix.ENOENT || err == unix.ENOTDIR:
			return -1, fault.NotExist("%q does not exist", path)
		case errors.Is(err, unix.ELOOP):
			return -1, fault.Invalid("%q leads through too many symbolic links", path)
		default:
			return -1, fault.Opaque(&os.PathError{Op: "open", Path: path, Err: err})
		}
	}
}
