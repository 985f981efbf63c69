package rootdir

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// linksMax is how many symbolic links one name may pass, as Docker has it.
const linksMax = 255

// Path names the root for calls that take a path: it leads to the open
// directory itself, in whatever mount namespace that is. It is valid until
// Close.
func (d *Dir) Path() string { return "/proc/self/fd/" + strconv.Itoa(int(d.f.Fd())) }

// at opens what name leads to, without its content.
func (d *Dir) at(name string, flags uint64) (int, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(d.f.Fd()), name, how)
		runtime.KeepAlive(d.f)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: something was renamed meanwhile
			return fd, err
		}
	}
}

// Resolve returns the name without symbolic links, from the root, beginning
// with "/". A last link is followed only with last. What does not exist is
// kept as it is. Whoever may change the tree may make the answer wrong at any
// time, so it says what a name means, and protects from nothing: use it with
// calls that resolve inside the root again.
func (d *Dir) Resolve(name string, last bool) (string, error) {
	done, rest := "/", split(name)
	for links := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		if len(rest) == 0 && !last {
			return next, nil
		}
		target, err := d.readlink(next)
		switch {
		case err != nil:
			return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
		case target == "":
			done = next
			continue
		}
		if links++; links > linksMax {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = append(split(target), rest...)
	}
	return done, nil
}

// split leaves ".." to path.Join, which is right where done has no links.
func split(name string) []string {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	return parts
}

// readlink returns "" for what is no symbolic link, or is not there.
func (d *Dir) readlink(name string) (string, error) {
	fd, err := d.at(name, unix.O_NOFOLLOW)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err == unix.EINVAL || err == unix.ENOENT { // no link
		return "", nil
	}
	return string(buf[:n]), err
}

// Lstat describes what name is, without following a last link.
func (d *Dir) Lstat(name string) (*Stat, error) {
	fd, err := d.at(name, unix.O_NOFOLLOW)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return &Stat{Mode: mode(st.Mode), Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}, nil
}

// mode turns the kernel's bits into Go's.
func mode(bits uint32) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for bit, set := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= set
		}
	}
	return m | map[uint32]fs.FileMode{unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFIFO: fs.ModeNamedPipe,
		unix.S_IFSOCK: fs.ModeSocket, unix.S_IFBLK: fs.ModeDevice, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice}[bits&unix.S_IFMT]
}

// Descend opens the directory that name leads to, and makes what is missing of
// it with mode 0755.
func (d *Dir) Descend(name string) (fd int, err error) {
	done := "/"
	if fd, err = d.at(done, unix.O_DIRECTORY); err != nil {
		return -1, err
	}
	for _, part := range split(name) {
		done = path.Join(done, part)
		next, err := d.at(done, unix.O_DIRECTORY)
		if err == unix.ENOENT {
			if err = unix.Mkdirat(fd, part, 0o755); err == nil || err == unix.EEXIST {
				next, err = d.at(done, unix.O_DIRECTORY)
			}
		}
		unix.Close(fd)
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: done, Err: err}
		}
		fd = next
	}
	return fd, nil
}

// IsReadOnly says whether an error comes from a file system, or a mount, that
// may not be written to.
func IsReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// PathForOthers is Path for other processes.
func (d *Dir) PathForOthers() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(d.f.Fd()))
}
