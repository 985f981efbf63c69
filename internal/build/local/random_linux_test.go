package local

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("devices and overlays need root")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	randomNames = []string{"a", "b", "ab", "c.txt", "d", "x[y", "e\\f", ".hid", "a.go"}
	links       = []string{"a", "b", "../a", "/b", "d/ab", "../../../etc", "/", ".", "ab/..", "/a/b", "d", "c.txt", "nothing"}
)

// randomTree fills dir. Names repeat, so patterns and links hit.
func randomTree(t *testing.T, r *rand.Rand, dir string, depth int) {
	for range 2 + r.IntN(5) {
		name := filepath.Join(dir, randomNames[r.IntN(len(randomNames))])
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		switch n := r.IntN(20); {
		case n < 8 && depth > 0:
			must(t, os.Mkdir(name, 0o755))
			randomTree(t, r, name, depth-1)
			must(t, os.Chmod(name, []os.FileMode{0o755, 0o700, 0o711}[r.IntN(3)]))
		case n < 14:
			must(t, os.WriteFile(name, []byte{byte('0' + r.IntN(3))}, []os.FileMode{0o644, 0o600, 0o755}[r.IntN(3)]))
		case n < 18:
			must(t, os.Symlink(links[r.IntN(len(links))], name))
		case n == 18:
			must(t, unix.Mkfifo(name, 0o600))
		default:
			list, _ := os.ReadDir(dir)
			for _, e := range list {
				if e.Type().IsRegular() {
					must(t, os.Link(filepath.Join(dir, e.Name()), name))
					break
				}
			}
		}
	}
}

func randomPath(r *rand.Rand) string {
	parts := make([]string, 1+r.IntN(3))
	for i := range parts {
		parts[i] = randomNames[r.IntN(5)]
	}
	return strings.Join(parts, "/")
}

func randomPattern(r *rand.Rand) string {
	p := randomPath(r)
	switch r.IntN(14) {
	case 8:
		p = "**/" + path.Base(p)
	case 9:
		p = "**/" + path.Base(p) + "*"
	case 10:
		p = []string{"**", "**/*", "a**", "**b", "**/*.go", "*.*", "[a-b]", "a/[^c]", "./a", " a ", "/b", "a\\b", "^a", "**/**", "a/**/b", "?*", "**.go", "x[[]y", "e\\\\f"}[r.IntN(19)]
	case 0:
		p = "**/" + p
	case 1:
		p += "/**"
	case 2:
		p += "/*"
	case 3:
		p = "*/" + p
	case 4:
		p = "*"
	case 5:
		p = strings.Replace(p, "a", "?", 1)
	}
	return p
}

func randomFilter(r *rand.Rand) *Filter {
	f := &Filter{}
	if r.IntN(3) == 0 {
		for range 1 + r.IntN(3) {
			f.Include = append(f.Include, randomPattern(r))
		}
	}
	for range r.IntN(5) {
		p := randomPattern(r)
		if r.IntN(3) == 0 {
			p = "!" + p
		}
		f.Exclude = append(f.Exclude, p)
	}
	if r.IntN(3) == 0 {
		for range 1 + r.IntN(3) {
			f.Follow = append(f.Follow, []string{randomPath(r), randomPath(r) + "/*", "*.txt", "../a"}[r.IntN(4)])
		}
	}
	return f
}

// listed is what fsutil would send.
func listed(t *testing.T, dir string, f *Filter) []string {
	source, err := fsutil.NewFS(dir)
	must(t, err)
	opt := &fsutil.FilterOpt{IncludePatterns: f.Include, ExcludePatterns: f.Exclude}
	for _, p := range f.Follow {
		opt.FollowPaths = append(opt.FollowPaths, filepath.Join("/", p))
	}
	source, err = fsutil.NewFilterFS(source, opt)
	must(t, err)
	var list []string
	must(t, fsutil.WithHardlinkReset(source).Walk(context.Background(), "/", func(name string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		st := info.Sys().(*types.Stat)
		link := st.Linkname
		if info.Mode()&fs.ModeSymlink == 0 {
			link = "" // hard links have another test
		}
		list = append(list, fmt.Sprintf("%s %v %s", name, info.Mode(), link))
		return nil
	}))
	sort.Strings(list)
	return list
}

func (m *Manifest) lines() []string {
	var list []string
	var walk func(rel string, e *entry)
	walk = func(rel string, e *entry) {
		for _, k := range e.kids {
			name := join(rel, k.name)
			list = append(list, fmt.Sprintf("%s %v %s", name, goMode(k.mode()), k.link))
			walk(name, k)
		}
	}
	walk(".", m.root)
	sort.Strings(list)
	return list
}

func goMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	}
	return mode
}

// Every answer is that of patternmatcher.
func TestPatterns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	names := append([]string{"a.b", "b.c.txt", "x\ny", "\xff", "ü", "a-b"}, randomNames...)
	for range 20000 {
		list := make([]string, 1+r.IntN(4))
		for i := range list {
			if list[i] = randomPattern(r); r.IntN(3) == 0 {
				list[i] = "!" + list[i]
			}
		}
		ours, err := newPatterns(list)
		must(t, err)
		theirs, err := patternmatcher.New(list)
		must(t, err)
		var name string
		var info patternmatcher.MatchInfo
		var above []bool
		for depth := range 4 {
			name = path.Join(name, names[r.IntN(len(names))])
			want, next, err1 := theirs.MatchesUsingParentResults(name, info)
			got, said, err2 := ours.match(name, above, true)
			if got != want || (err1 == nil) != (err2 == nil) {
				t.Fatalf("%q, %q: %v %v instead of %v %v", list, name, got, err2, want, err1)
			}
			if depth == 0 && r.IntN(2) == 0 {
				continue // a name in a directory that nobody asked about
			}
			info, above = next, said
		}
	}
}

func TestFilterIsThatOfBuildKit(t *testing.T) {
	needRoot(t)
	for seed := range uint64(rounds(t, 100)) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		randomTree(t, r, dir, 3)
		for range 5 {
			f := randomFilter(r)
			m, err := (&Dir{Path: dir}).Scan(context.Background(), f)
			must(t, err)
			if got, want := m.lines(), listed(t, dir, f); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %+v:\n%s\ninstead of\n%s", seed, f, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		must(t, os.RemoveAll(dir))
	}
}

func rounds(t *testing.T, n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

func lease(t testing.TB) *store.Lease {
	root := t.TempDir()
	s := store.Open(root, t.TempDir(), journal.Open(filepath.Join(root, "journal")))
	l, err := s.Lease(context.Background())
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// mounted shows lowers as a directory.
func mounted(t testing.TB, lowers []string) string {
	target := t.TempDir()
	must(t, overlay.Mount(target, overlay.Layers{Lower: lowers}))
	t.Cleanup(func() { must(t, unix.Unmount(target, 0)) })
	return target
}

func TestViewShowsWhatBelongs(t *testing.T) {
	needRoot(t)
	l := lease(t)
	for seed := range uint64(rounds(t, 100)) {
		r := rand.New(rand.NewPCG(seed, 2))
		dir := t.TempDir()
		randomTree(t, r, dir, 3)
		f := randomFilter(r)
		m, err := (&Dir{Path: dir}).Scan(context.Background(), f)
		must(t, err)
		lowers, err := m.View(l)
		must(t, err)
		copied, err := m.copied(l)
		must(t, err)
		for what, lowers := range map[string][]string{"view": lowers, "copy": copied} {
			seen, err := (&Dir{Path: mounted(t, lowers)}).Scan(context.Background(), nil)
			must(t, err)
			if got, want := seen.lines(), m.lines(); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %+v, %s:\n%s\ninstead of\n%s", seed, f, what, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if seen.Digest() != m.Digest() {
				t.Fatalf("seed %d, %s: another digest", seed, what)
			}
		}
		if ok, err := m.Unchanged(context.Background()); !ok || err != nil {
			t.Fatalf("seed %d: changed, %v", seed, err)
		}
	}
}
