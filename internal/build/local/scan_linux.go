package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/tree"
	"github.com/amphora-go/amphora/internal/fault"
)

var (
	errAgain   = errors.New("a name became another kind of file") // the scan begins anew
	errChanged = errors.New("the context changed")
)

// tries is how often something that changes while it is read is read.
const tries = 5

// scanner makes one manifest.
type scanner struct {
	ctx    context.Context
	group  *errgroup.Group
	root   int
	rules  *rules
	known  *remembered
	began  int64 // ns since 1970, before the first file was looked at
	frozen bool  // a file that is not known ends the scan with errChanged

	news   atomic.Bool // something was learnt that can be remembered
	mu     sync.Mutex
	visits []*visit
}

func (d *Dir) scan(ctx context.Context, f *Filter) (*Manifest, error) {
	if f == nil {
		f = &Filter{}
	}
	dir, err := filepath.Abs(d.Path)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotExist("the build context %q does not exist", d.Path)
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	known := load(d.Stat)
	for range tries {
		var m *Manifest
		m, err = scan(ctx, dir, f, known, d.Stat, false)
		if !errors.Is(err, errAgain) {
			return m, err
		}
	}
	return nil, fmt.Errorf("the build context %q changes all the time: build when nothing writes there", d.Path)
}

// scan is one try.
func scan(ctx context.Context, dir string, f *Filter, known *remembered, stat string, frozen bool) (*Manifest, error) {
	began := time.Now().UnixNano()
	rules, err := newRules(dir, f)
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fault.Invalid("the build context %q is no directory", dir)
	}
	if err != nil {
		return nil, trouble("open build context", dir, err)
	}
	defer unix.Close(root)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	s := &scanner{ctx: gctx, group: group, root: root, rules: rules, known: known, began: began, frozen: frozen}
	top := &entry{shown: true}
	if _, err := statx(root, "", unix.AT_EMPTY_PATH, top); err != nil {
		return nil, trouble("stat", dir, err)
	}
	attrs, err := tree.AttributesOf(root)
	if err != nil {
		return nil, trouble("listxattr", dir, err)
	}
	err = s.dir(".", top, state{})
	if err2 := group.Wait(); err2 != nil { // the first error; others may only say that it ended them
		err = err2
	}
	if err != nil {
		return nil, err
	}
	if stat != "" && s.news.Load() {
		s.save(stat) //nolint:errcheck // what is not remembered is read again
	}
	m := &Manifest{path: dir, filter: *f, root: top, mode: top.stamp.mode, owned: top.uid != 0 || top.gid != 0 || len(attrs) > 0}
	prune(top)
	// Builders make the root themselves.
	top.stamp.mode, top.uid, top.gid, top.mount = unix.S_IFDIR|0o755, 0, 0, false
	top.seal(nil)
	return m, nil
}

// prune removes what went away, and directories that are not shown and lead to
// nothing that is.
func prune(e *entry) {
	all := e.kids
	e.kids = all[:0]
	hidden := len(e.hidden)
	for _, k := range all {
		if k.dir() {
			prune(k)
		}
		switch {
		case k.gone:
		case !k.shown && len(k.kids) == 0:
			e.hidden = append(e.hidden, k.name)
		default:
			e.kids = append(e.kids, k)
		}
	}
	if len(e.hidden) > hidden {
		slices.Sort(e.hidden)
	}
}

// trouble is an error of the file system.
func trouble(op, name string, err error) error {
	return fault.Opaque(fmt.Errorf("build context: %w", &os.PathError{Op: op, Path: name, Err: err}))
}

// trusted says whether a file that had this stamp when the scan began cannot
// have changed without changing it. It can if it was changed just before: the
// clock of file times has steps: those of the scheduler, up to 10 ms, on file
// systems that write fractions of a ms, up to 2 s (FAT) elsewhere.
func (s *scanner) trusted(st *stamp) bool {
	return st.ctime < s.began-int64(st.step())
}

// step is more than the steps of the clock that made the stamp.
func (st *stamp) step() time.Duration {
	if st.ctime%int64(time.Millisecond) == 0 {
		return 3 * time.Second
	}
	return 20 * time.Millisecond
}

// open opens a directory of the context. Nothing on the way is a link.
func (s *scanner) open(rel string) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(s.root, rel, how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: something was renamed meanwhile
			return fd, err
		}
	}
}

// spread runs f on another processor if one is free, or here.
func (s *scanner) spread(f func() error) error {
	if s.group.TryGo(f) {
		return nil
	}
	return f()
}

// below is a directory that is to be entered.
type below struct {
	rel   string
	at    *entry
	state state
}

// dir fills e with what the directory rel has, and all below.
func (s *scanner) dir(rel string, e *entry, st state) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	todo, err := s.list(rel, e, st)
	if err != nil {
		return err
	}
	for _, d := range todo {
		if err := s.spread(func() error { return s.dir(d.rel, d.at, d.state) }); err != nil {
			return err
		}
	}
	return nil
}

// list fills e with what the directory itself has.
func (s *scanner) list(rel string, e *entry, st state) (todo []below, err error) {
	fd, err := s.open(rel)
	switch {
	case err == unix.ENOENT:
		e.gone = true
		return nil, nil
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return nil, errAgain
	case err == unix.EACCES && !e.shown:
		return nil, nil // it does not belong to the context, and what might is not to be seen
	case err != nil:
		return nil, trouble("open", rel, err)
	}
	defer unix.Close(fd)
	names, err := names(fd)
	if err == unix.ENOENT { // removed since it was opened
		e.gone = true
		return nil, nil
	}
	if err != nil {
		return nil, trouble("read directory", rel, err)
	}
	old := s.known.dir(rel)
	s.mu.Lock()
	s.visits = append(s.visits, &visit{rel, e, old})
	s.mu.Unlock()
	e.kids = make([]*entry, 0, len(names))
	kids := make([]entry, len(names))
	l := &listing{s: s, fd: fd, rel: rel, at: e, old: old}
	for i, n := range names {
		k := &kids[i]
		k.name = n.name
		enter, at, err := l.name(k, n.kind, st)
		if err != nil {
			return nil, err
		}
		if enter {
			todo = append(todo, below{join(rel, n.name), k, at})
		}
	}
	return todo, nil
}
