// Package atrest shows the tree of a container that does not run as its
// processes would see it: the layers with its own on top, and in them its
// volumes and bind mounts, read-only ones read-only. File systems that live
// with a run (proc, sysfs, tmpfs) are not there.
//
// The tree is put together in a mount namespace that no process is in: it is
// held by a descriptor and goes with it, also when the holder is killed.
// Nothing of it ever shows on the host.
package atrest

import (
	"errors"
	"os"
)

// Options say which tree.
type Options struct {
	// Write opens it for writing. The caller holds the container's alive lock:
	// nobody may start it meanwhile. Otherwise nothing that is done to the tree
	// reaches the disk; it is not to be written to.
	Write bool
	// Bare leaves out all mounts: the root file system alone.
	Bare bool
}

// Root is an open tree.
type Root struct {
	Dir *os.File // its root directory, without access to the content (O_PATH)
	ns  *os.File // keeps it together
}

// Close lets the tree go. It is idempotent.
func (r *Root) Close() error {
	err := errors.Join(r.Dir.Close(), r.ns.Close())
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
