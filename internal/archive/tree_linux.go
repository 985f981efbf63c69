package archive

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
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
	strict   bool  // Settle: what depends on the order of entries is ErrReapply
	lowers   *view // nil: nothing is known of lower layers

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
		opaque: map[string]bool{}, whited: map[string]bool{}, implied: map[string]bool{}, links: map[string]int{},
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

// unsure is an error that might be none, or the other way round, if lower
// layers were in sight.
type unsure struct{ error }

func (e unsure) Unwrap() error { return e.error }

// assumes reports whether the layer has already been taken to mean something
// that only lower layers can confirm.
func (t *tree) assumes() bool {
	others := len(t.implicit)
	if t.implicit["."] {
		others--
	}
	return t.isolated && others+len(t.described)+len(t.foreign) > 0
}

func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// walk goes component by component.
func (t *tree) walk(name string, create bool) (*dirRef, string, error) {
	cur, rest, links := t.root, strings.Split(name, "/"), 0
	for len(rest) > 0 {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			up, err := t.dir(path.Dir(cur.path))
			if err != nil {
				return nil, "", err
			}
			cur = up
			continue
		}
		next, target, err := t.step(cur, c, create)
		if err != nil {
			return nil, "", err
		}
		if target == "" {
			if next == nil {
				if slices.Contains(rest, "..") {
					t.ordered = true // cleaned without knowing what c is
				}
				return nil, path.Join(cur.path, c, path.Join(rest...)), nil
			}
			cur = next
			continue
		}
		if links++; links > linksMax {
			return nil, "", unsure{fault.Invalid("too many symbolic links in %q", name)}
		}
		rest = append(strings.Split(target, "/"), rest...)
		if target[0] == '/' {
			cur = t.root
		}
	}
	// Over lower layers a link can be hidden without being removed here, and
	// the name would go on meaning what it led to.
	if cur != t.root && t.lowers == nil {
		t.keep(name, cur)
	}
	return cur, "", nil
}

// step goes from d to its component c: a directory, or the target of a
// symbolic link. Without create, both are empty when c is absent.
func (t *tree) step(d *dirRef, c string, create bool) (*dirRef, string, error) {
	p := join(d.path, c)
	if len(p) > pathMax {
		return nil, "", fault.Invalid("path is longer than %d bytes", pathMax)
	}
	if next := t.cached(p); next != nil {
		return next, "", nil
	}
	next, err := t.child(d, c, p)
	if err != nil || next != nil {
		return next, "", err
	}
	target, err := readlinkat(d.fd, c)
	switch {
	case err == nil && target == "":
		return nil, "", fault.Invalid("%q is an empty symbolic link", p)
	case err == nil:
		// What it leads to may depend on what lower layers hold.
		t.ordered = true
		if t.strict {
			return nil, "", ErrReapply
		}
		return nil, target, nil
	case errors.Is(err, unix.EINVAL): // neither directory nor link: the later entry wins
		if t.strict {
			return nil, "", ErrReapply
		}
		_, waiting := t.links[p] // perhaps a hard link to a symbolic link
		if waiting || !create {
			return nil, "", unsure{fault.Invalid("%q is not a directory", p)}
		}
		if err := t.replaceByDir(d, c); err != nil {
			return nil, "", err
		}
		t.imply(p, nil)
		next, err := t.mustChild(d, c, p)
		return next, "", err
	case !errors.Is(err, unix.ENOENT):
		return nil, "", err
	}
	return t.missing(d, c, p, create)
}

// missing is step where the tree has nothing at p.
func (t *tree) missing(d *dirRef, c, p string, create bool) (*dirRef, string, error) {
	hidden, err := t.hidden(d.path)
	if err != nil {
		return nil, "", err
	}
	var lower *node
	if t.lowers != nil && !hidden {
		if lower, err = t.lowers.lookup(p); err != nil {
			return nil, "", err
		}
		if lower.kind == kindLink {
			return nil, lower.target, nil
		}
	}
	if t.strict && hidden {
		return nil, "", ErrReapply
	}
	// A copy of a lower directory changes nothing, so looking may make one.
	if !create && (lower == nil || lower.kind != kindDir) {
		return nil, "", nil
	}
	if err := t.mkdir(d, c); err != nil {
		return nil, "", err
	}
	var m *dirMeta
	if lower != nil && lower.kind == kindDir {
		if m, err = t.lowers.meta(p, lower); err != nil {
			return nil, "", err
		}
	}
	if t.isolated && !hidden {
		t.implicit[p] = true
	}
	t.imply(p, m)
	next, err := t.mustChild(d, c, p)
	return next, "", err
}

func (t *tree) mustChild(d *dirRef, c, p string) (*dirRef, error) {
	next, err := t.child(d, c, p)
	if err == nil && next == nil {
		err = errors.New("a directory vanished while the archive was unpacked: something else writes there")
	}
	return next, err
}

// imply notes what a directory that no entry describes gets in the end.
func (t *tree) imply(p string, m *dirMeta) {
	if m == nil {
		m = &dirMeta{Meta: Meta{Mode: 0o755, UID: t.zeroUID, GID: t.zeroGID}}
	}
	t.pending[p] = m
	t.implied[p] = true
}

// hidden reports whether lower layers do not show below p, because of p or a
// directory above it.
func (t *tree) hidden(p string) (bool, error) {
	if !t.style.overlay() || (len(t.opaque) == 0 && !t.strict) {
		return false, nil
	}
	for {
		if t.opaque[p] {
			return true, nil
		}
		if t.strict && p != "." {
			o, err := t.opaqueOnDisk(p)
			if err != nil || o {
				return o, err
			}
		}
		if p == "." {
			return false, nil
		}
		p = path.Dir(p)
	}
}

// join is path.Join for clean parts, where "." is the root.
func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}
