package archive

import (
	"errors"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	pathMax  = 4095 // PATH_MAX without its NUL
	linksMax = 40   // symbolic links in one resolution, as in the kernel
	// cacheMax bounds the open parent directories. Archives are written
	// depth first, so a few per level of depth are enough.
	cacheMax = 64
)

// dirRef is an open directory of the tree.
type dirRef struct {
	fd   int    // O_PATH
	path string // from the root, without symbolic links; "." is the root
	// inherits is set where new files would not get our own group: below
	// setgid directories, or those of another group (mount option grpid).
	inherits bool
	used     uint64 // for eviction
}

// tree resolves names inside one directory, creating what is missing of a
// parent, and knows what must be set when all entries are there. Invariant:
// every operation on the file system names a descriptor of the tree and one
// component that is not followed. It is for one goroutine.
type tree struct {
	root  *dirRef
	cache map[string]*dirRef // by canonical or cleaned name
	old   []*dirRef          // no longer cached, perhaps still in use by the current entry
	tick  uint64

	style    Whiteouts
	isolated bool
	// keepKinds: directories and what is none do not replace each other
	keepKinds bool
	strict    bool  // Settle: what depends on the order of entries is ErrReapply
	lowers    *view // nil: nothing is known of lower layers

	euid, egid int
	umask      uint32
	zeroUID    int // owner of directories that nothing describes
	zeroGID    int

	pending   map[string]*dirMeta // set by finish
	implicit  map[string]bool
	described []string
	opaque    map[string]bool
	whited    map[string]bool // directories with whiteouts
	implied   map[string]bool // directories that no entry describes
	passed    map[string]bool // symbolic links of lower layers that were followed
	upped     map[string]bool // copies of lower files that no entry brought
	made      map[string]bool // WhiteoutPlain: what this archive brought or passed
	links     map[string]int  // ForeignLink placeholders
	foreign   []ForeignLink
	ordered   bool
	skipped   []string // extended attributes
}

func openTree(dir string, style Whiteouts) (*tree, error) {
	fd, err := openRetry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, pathErr("open", dir, err)
	}
	t := &tree{
		style: style, euid: unix.Geteuid(), egid: unix.Getegid(), umask: currentUmask(),
		cache: map[string]*dirRef{}, pending: map[string]*dirMeta{}, implicit: map[string]bool{},
		opaque: map[string]bool{}, whited: map[string]bool{}, implied: map[string]bool{}, upped: map[string]bool{}, passed: map[string]bool{}, links: map[string]int{},
	}
	if style == WhiteoutPlain {
		t.made = map[string]bool{".": true}
	}
	t.root = &dirRef{fd: fd, path: "."}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, pathErr("stat", dir, err)
	}
	t.root.inherits = st.Mode&unix.S_ISGID != 0 || int(st.Gid) != t.egid
	return t, nil
}

func (t *tree) close() {
	t.flush()
	t.reap()
	unix.Close(t.root.fd)
	if t.lowers != nil {
		t.lowers.close()
	}
}

// reap closes what the previous entry may still have used.
func (t *tree) reap() {
	for _, d := range t.old {
		unix.Close(d.fd)
	}
	t.old = t.old[:0]
}

// flush forgets all open directories: after a directory or symbolic link went
// away, cached names may mean something else.
func (t *tree) flush() {
	for _, d := range t.cache {
		if !slices.Contains(t.old, d) { // cached under two names
			t.old = append(t.old, d)
		}
	}
	clear(t.cache)
}

func (t *tree) keep(name string, d *dirRef) *dirRef {
	t.tick++
	d.used = t.tick
	if len(t.cache) >= cacheMax {
		t.evict()
	}
	t.cache[name] = d
	return d
}

// evict drops the directory unused for longest, under all its names.
func (t *tree) evict() {
	var victim *dirRef
	for _, d := range t.cache {
		if victim == nil || d.used < victim.used {
			victim = d
		}
	}
	for name, d := range t.cache {
		if d == victim {
			delete(t.cache, name)
		}
	}
	t.old = append(t.old, victim)
}

func (t *tree) cached(name string) *dirRef {
	if name == "." {
		return t.root
	}
	d := t.cache[name]
	if d != nil {
		t.tick++
		d.used = t.tick
	}
	return d
}

// dir returns the directory that name leads to, following symbolic links
// inside the root and creating what is missing. name is cleaned.
func (t *tree) dir(name string) (*dirRef, error) {
	if d := t.cached(name); d != nil {
		return d, nil
	}
	if d, err := t.open(name); err != nil || d != nil {
		return d, err
	}
	d, _, err := t.walk(name, true)
	return d, err
}

// find is dir without creating anything new: missing is where the first absent
// component would be, followed by the rest of the name.
func (t *tree) find(name string) (d *dirRef, missing string, err error) {
	if d := t.cached(name); d != nil {
		return d, "", nil
	}
	if d, err := t.open(name); err != nil || d != nil {
		return d, "", err
	}
	return t.walk(name, false)
}

// open opens a directory that exists in the tree without a symbolic link on
// the way, or returns nil.
func (t *tree) open(name string) (*dirRef, error) {
	if p := t.cached(path.Dir(name)); p != nil {
		return t.child(p, path.Base(name), name)
	}
	fd, err := openat2(t.root.fd, name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t.opened(fd, name, name)
}

// child opens one component below p, nil when it is no directory.
func (t *tree) child(p *dirRef, base, as string) (*dirRef, error) {
	fd, err := openRetry(func() (int, error) {
		return unix.Openat(p.fd, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t.opened(fd, join(p.path, base), as)
}

func (t *tree) opened(fd int, canonical, as string) (*dirRef, error) {
	d := &dirRef{fd: fd, path: canonical}
	// In layers all directories are our own, made without setgid bit.
	if !t.style.overlay() {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return nil, err
		}
		d.inherits = st.Mode&unix.S_ISGID != 0 || int(st.Gid) != t.egid
	} else {
		d.inherits = t.root.inherits
	}
	return t.keep(as, d), nil
}

func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// join is path.Join for clean parts, where "." is the root.
func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}
