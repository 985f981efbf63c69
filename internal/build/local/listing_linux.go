package local

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/tree"
)

// listing is a directory that is being listed.
type listing struct {
	s   *scanner
	fd  int
	rel string
	at  *entry
	old []record // not passed yet
}

// name looks at one name. kind is what the directory says of it, perhaps
// DT_UNKNOWN.
func (l *listing) name(k *entry, kind byte, above state) (enter bool, at state, err error) {
	have := false
	look := func() (bool, error) {
		ok, err := statx(l.fd, k.name, unix.AT_SYMLINK_NOFOLLOW, k)
		if err != nil {
			return false, trouble("stat", join(l.rel, k.name), err)
		}
		have = true
		return ok, nil
	}
	dir := kind == unix.DT_DIR
	if kind == unix.DT_UNKNOWN {
		if ok, err := look(); err != nil || !ok {
			return false, at, err
		}
		dir = k.dir()
	}
	k.shown, enter = true, dir
	if r := l.s.rules; r.include != nil || r.exclude != nil {
		if k.shown, enter, at, err = r.decide(join(l.rel, k.name), dir, above); err != nil {
			return false, at, err
		}
	}
	if !k.shown && !enter {
		l.at.hidden = append(l.at.hidden, k.name)
		return false, at, nil
	}
	if !have {
		if ok, err := look(); err != nil || !ok {
			return false, at, err
		}
	}
	if k.dir() != dir {
		return false, at, errAgain
	}
	if k.kind() == unix.S_IFCHR && k.rdev == 0 { // overlayfs would not show it, nor let anybody make one
		l.at.hidden = append(l.at.hidden, k.name)
		return false, at, nil
	}
	l.at.kids = append(l.at.kids, k)
	return enter, at, l.fill(k)
}

// fill completes an entry from what is remembered, or from the file.
func (l *listing) fill(k *entry) error {
	if r := find(&l.old, k.name, &k.stamp); r != nil {
		k.sum, k.link, k.xattrs = r.sum, r.link, r.xattrs
		return nil
	}
	s := l.s
	if s.frozen && !k.dir() {
		return errChanged
	}
	if s.trusted(&k.stamp) {
		s.news.Store(true)
	}
	err := l.attributes(k)
	if err == nil {
		switch k.kind() {
		case unix.S_IFLNK:
			err = l.readlink(k)
		case unix.S_IFREG:
			return l.content(k)
		case unix.S_IFSOCK:
			k.sum = emptySum
		}
	}
	if errors.Is(err, unix.ENOENT) {
		k.gone, err = true, nil
	}
	if errors.Is(err, unix.EINVAL) {
		err = errAgain // no link any more
	}
	if err != nil && err != errAgain {
		return trouble("read", join(l.rel, k.name), err)
	}
	return err
}

func (l *listing) attributes(k *entry) error {
	list, err := tree.Attributes("/proc/self/fd/" + strconv.Itoa(l.fd) + "/" + k.name)
	k.xattrs = pack(list)
	return err
}

func (l *listing) readlink(k *entry) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(l.fd, k.name, buf)
	k.link = string(buf[:max(n, 0)])
	return err
}

// dirent is a name of a directory and what the directory says it is.
type dirent struct {
	name string
	kind byte // DT_*
}

// names lists a directory, sorted.
func names(fd int) ([]dirent, error) {
	var list []dirent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			// struct linux_dirent64: u64 inode, s64 offset, u16 size, u8 kind, name with its NUL
			size := binary.NativeEndian.Uint16(b[16:])
			name := b[19:size]
			for i, c := range name {
				if c == 0 {
					name = name[:i]
					break
				}
			}
			if s := string(name); s != "." && s != ".." {
				list = append(list, dirent{s, b[18]})
			}
			b = b[size:]
		}
	}
	slices.SortFunc(list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// statx describes what name is in e, which is false if there is no such name.
func statx(dir int, name string, flags int, e *entry) (bool, error) {
	var st unix.Statx_t
	for {
		err := unix.Statx(dir, name, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &st)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOENT {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		break
	}
	e.stamp = stamp{
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, size: st.Size,
		mtime: ns(st.Mtime), ctime: ns(st.Ctime), mode: uint32(st.Mode),
	}
	e.uid, e.gid, e.rdev = st.Uid, st.Gid, 0
	if k := e.kind(); k == unix.S_IFCHR || k == unix.S_IFBLK {
		e.rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	e.linked = st.Nlink > 1 && !e.dir()
	e.mount = st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	return true, nil
}

func ns(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
