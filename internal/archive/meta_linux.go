package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// dirMeta waits for finish: a directory's times change while it is filled, and
// its mode might forbid to fill it.
type dirMeta struct {
	Meta
	timesOnly bool // an existing directory that is to look untouched
}

const permBits = 0o7777

// finish sets what is pending, deepest first. It goes on after an error and
// returns the first.
func (t *tree) finish() error {
	paths := make([]string, 0, len(t.pending))
	for p := range t.pending {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var first error
	for _, p := range slices.Backward(paths) {
		if err := t.finishDir(p, t.pending[p]); err != nil && first == nil {
			first = fmt.Errorf("directory %q: %w", p, err)
		}
	}
	clear(t.pending)
	return first
}

func (t *tree) finishDir(p string, m *dirMeta) error {
	fd, err := openat2(t.root.fd, p, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.EACCES) && m.timesOnly {
		return nil // not ours, and nobody changed it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !m.timesOnly {
		if err := chownFd(fd, &m.Meta); err != nil {
			return err
		}
		if err := t.setXattrs(procPath(fd), m.Xattrs); err != nil {
			return err
		}
		if err := unix.Fchmod(fd, m.Mode&permBits); err != nil {
			return err
		}
	}
	if m.Mtime.IsZero() {
		return nil
	}
	ts := m.times()
	return futimens(fd, &ts)
}

// touch is called before something is added to or removed from d. In Settle
// a directory that was complete keeps its times.
func (t *tree) touch(d *dirRef) error {
	if !t.strict || t.pending[d.path] != nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	t.pending[d.path] = &dirMeta{Meta: metaOf(&st), timesOnly: true}
	return nil
}

func metaOf(st *unix.Stat_t) Meta {
	return Meta{
		Mode: st.Mode & permBits, UID: int(st.Uid), GID: int(st.Gid),
		Atime: time.Unix(st.Atim.Unix()), Mtime: time.Unix(st.Mtim.Unix()),
	}
}

// times are for utimensat. As with Docker the access time is never before the
// modification time.
func (m *Meta) times() [2]unix.Timespec {
	mt := timespec(m.Mtime)
	if m.Atime.After(m.Mtime) {
		return [2]unix.Timespec{timespec(m.Atime), mt}
	}
	return [2]unix.Timespec{mt, mt}
}

// timespec falls back to 1970 where the architecture's type is too small.
func timespec(t time.Time) unix.Timespec {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return unix.Timespec{}
	}
	return ts
}

func chownErr(err error, m *Meta) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return fault.Privilege("giving it to user %d group %d needs CAP_CHOWN and, in a user namespace, ids that are mapped: run as root", m.UID, m.GID)
	}
	return err
}

func chownFd(fd int, m *Meta) error {
	return chownErr(unix.Fchown(fd, m.UID, m.GID), m)
}

// ours reports whether what this process makes in d has m's owner already.
func (t *tree) ours(d *dirRef, m *Meta) bool {
	return !d.inherits && m.UID == t.euid && m.GID == t.egid
}

// setXattrs sets attributes of the file that name leads to without following
// a last symbolic link, or of the file behind a procPath without base.
func (t *tree) setXattrs(name string, attrs map[string]string) error {
	set := unix.Lsetxattr
	if rest, ok := strings.CutPrefix(name, "/proc/self/fd/"); ok && !strings.Contains(rest, "/") {
		set = unix.Setxattr
	}
	for key, val := range attrs {
		err := set(name, key, []byte(val), 0)
		switch {
		case err == nil:
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM) && skippable(key):
			t.skip(key)
		case errors.Is(err, unix.EPERM):
			return fault.Privilege("setting the extended attribute %s needs root: run as root", key)
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG):
			return fault.Invalid("extended attribute %s has a name or value that Linux refuses: %v", key, err)
		default:
			return fmt.Errorf("extended attribute %s: %w", key, err)
		}
	}
	return nil
}

// skippable are attributes that only the initial user namespace may set, or
// that say something about the host where the layer was made. user.* is refused
// with EPERM on anything but files and directories.
func skippable(key string) bool {
	return key != "security.capability" &&
		(strings.HasPrefix(key, "security.") || strings.HasPrefix(key, "trusted.") || strings.HasPrefix(key, "user."))
}

func (t *tree) skip(key string) {
	if len(t.skipped) < 16 && !slices.Contains(t.skipped, key) {
		t.skipped = append(t.skipped, key)
	}
}

// overlayXattr reports whether overlayfs gives the attribute a meaning: a
// layer must not bring such, it could redirect lookups to any directory.
func overlayXattr(key string) bool {
	return strings.HasPrefix(key, "trusted.overlay.") || strings.HasPrefix(key, "user.overlay.")
}

// readXattrs returns the attributes of the file that name, as of setXattrs,
// leads to, save those of overlayfs.
func readXattrs(name string) (map[string]string, error) {
	list, get := unix.Llistxattr, unix.Lgetxattr
	if rest, ok := strings.CutPrefix(name, "/proc/self/fd/"); ok && !strings.Contains(rest, "/") {
		list, get = unix.Listxattr, unix.Getxattr
	}
	keys, err := xattrBytes(func(b []byte) (int, error) { return list(name, b) })
	if errors.Is(err, unix.EOPNOTSUPP) || len(keys) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m map[string]string
	for key := range strings.SplitSeq(strings.TrimSuffix(string(keys), "\x00"), "\x00") {
		if overlayXattr(key) {
			continue
		}
		val, err := xattrBytes(func(b []byte) (int, error) { return get(name, key, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // removed meanwhile, or a name that only lists
		}
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", key, err)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[key] = string(val)
	}
	return m, nil
}

// xattrBytes calls get with room for most answers, and with 64 KiB, the
// kernel's limit, for the others.
func xattrBytes(get func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	n, err := get(small[:])
	if err == nil {
		return slices.Clone(small[:n]), nil
	}
	if !errors.Is(err, unix.ERANGE) {
		return nil, err
	}
	b := make([]byte, 64<<10)
	if n, err = get(b); err != nil {
		return nil, err
	}
	return b[:n], nil
}
