package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Attr is an extended attribute.
type Attr struct{ Key, Value string }

type (
	lister func(path string, buf []byte) (int, error)
	getter func(path, key string, buf []byte) (int, error)
)

// Attributes are those of path, which is not followed, that count: by key. A
// file system without any has none.
func Attributes(path string) ([]Attr, error) {
	list, _, err := attributes(path, unix.Llistxattr, unix.Lgetxattr)
	return list, err
}

// AttributesOf are Attributes of an open file.
func AttributesOf(fd int) ([]Attr, error) {
	list, _, err := attributes(procPath(fd), unix.Listxattr, unix.Getxattr)
	return list, err
}

func attributes(path string, list lister, get getter) (found []Attr, opaque bool, err error) {
	keys, err := grow(func(b []byte) (int, error) { return list(path, b) })
	if err != nil || len(keys) == 0 {
		return nil, false, err
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(keys), "\x00"), "\x00") {
		mark := key == "trusted.overlay.opaque" || key == "user.overlay.opaque"
		if !mark && !counts(key) {
			continue
		}
		val, err := grow(func(b []byte) (int, error) { return get(path, key, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // a name that only lists
		}
		if err != nil {
			return nil, false, fmt.Errorf("extended attribute %s: %w", key, err)
		}
		if mark {
			opaque = opaque || string(val) == "y" // "x" only says that whiteouts may be attributes, too
			continue
		}
		found = append(found, Attr{key, string(val)})
	}
	slices.SortFunc(found, func(a, b Attr) int { return strings.Compare(a.Key, b.Key) })
	return found, opaque, nil
}

// counts says whether an attribute is the file's own, which an image carries.
func counts(key string) bool {
	if strings.HasPrefix(key, "trusted.overlay.") || strings.HasPrefix(key, "user.overlay.") {
		return false
	}
	return key == "security.capability" || strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "trusted.") ||
		strings.HasPrefix(key, "system.posix_acl_")
}

// grow calls f with room for most answers, and with 64 KiB, the kernel's limit,
// for the others.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	n, err := f(small[:])
	if err == nil {
		return slices.Clone(small[:n]), nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if !errors.Is(err, unix.ERANGE) {
		return nil, err
	}
	b := make([]byte, 64<<10)
	if n, err = f(b); err != nil {
		return nil, err
	}
	return b[:n], nil
}
