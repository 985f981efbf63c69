package networks

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inode of a namespace, in nsfs; fs.ErrNotExist and fs.ErrInvalid if path is
// none.
func inode(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if fs.Type != unix.NSFS_MAGIC {
		return 0, fault.Invalid("%s is no network namespace", path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// links are the bridges whose name begins so and that are not another Root's:
// four digits of an id are soon those of two. A bridge without an alias was made
// by somebody who was killed before he could give it one. No prefix: all bridges.
func links(prefix, id string) ([]string, error) {
	var all []netlink.Link
	var err error
	for range 5 { // a dump may be interrupted by a change
		all, err = netlink.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fault.Opaque(fmt.Errorf("list the interfaces: %w", err))
	}
	var names []string
	for _, l := range all {
		a := l.Attrs()
		if l.Type() == "bridge" && strings.HasPrefix(a.Name, prefix) && (prefix == "" || a.Alias == "" || strings.HasPrefix(a.Alias, "amphora "+id+" ")) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// RemoveLink deletes an interface of this host; a missing one is no error.
func RemoveLink(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fault.Opaque(fmt.Errorf("remove the interface %s: %w", name, err))
	}
	return nil
}
