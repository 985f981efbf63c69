package local

import (
	"path"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"github.com/tonistiigi/fsutil"

	"github.com/amphora-go/amphora/internal/fault"
)

// rules decide which names belong to a context, as fsutil's FilterFS does. A
// directory that does not match may hold names that do.
type rules struct {
	include, exclude []string
	// Where the patterns that could match below a directory are plain paths,
	// these are their beginnings, with "/": other directories are not entered.
	// nil: any directory may hold something.
	includeWays, exceptionWays []string
	onlyExcludes               bool // no exceptions: nothing below an excluded directory belongs

	pool sync.Pool // of *matchers, which one goroutine at a time may use
}

type matchers struct {
	include, exclude *patternmatcher.PatternMatcher
}

// state is what patterns said of a directory, for what is below it.
type state struct{ include, exclude patternmatcher.MatchInfo }

// newRules reads the links that f follows below root.
func newRules(root string, f *Filter) (*rules, error) {
	r := &rules{}
	if f == nil {
		return r, nil
	}
	r.include, r.exclude = append([]string(nil), f.Include...), f.Exclude
	if f.Follow != nil {
		targets, err := follow(root, f.Follow)
		if err != nil {
			return nil, err
		}
		if targets != nil { // else the root is one of them
			r.include = covering(append(r.include, targets...))
		}
	}
	m, err := r.compile()
	if err != nil {
		return nil, err
	}
	if m.include != nil {
		r.includeWays = ways(m.include, false)
	}
	if m.exclude != nil {
		r.onlyExcludes = !m.exclude.Exclusions()
		r.exceptionWays = ways(m.exclude, true)
	}
	r.pool.Put(m)
	return r, nil
}

// follow never leaves the root: names above it are taken as names in it.
func follow(root string, paths []string) ([]string, error) {
	tree, err := fsutil.NewFS(root)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	clean := make([]string, len(paths))
	for i, p := range paths {
		clean[i] = path.Join("/", p)
	}
	targets, err := fsutil.FollowLinks(tree, clean)
	return targets, fault.Opaque(err)
}

// covering leaves out patterns that are below the one before them. The root
// among them means that there are no patterns.
func covering(patterns []string) []string {
	kept := make([]string, 0, len(patterns))
	last := ""
	for _, p := range patterns {
		if p == "." {
			return nil
		}
		if !strings.HasPrefix(p, last+"/") {
			kept = append(kept, p)
			last = p
		}
	}
	return kept
}

func (r *rules) compile() (*matchers, error) {
	m := &matchers{}
	var err error
	if len(r.include) > 0 {
		if m.include, err = patternmatcher.New(r.include); err != nil {
			return nil, fault.Invalid("patterns of what to include %q: %v", r.include, err)
		}
	}
	if len(r.exclude) > 0 {
		if m.exclude, err = patternmatcher.New(r.exclude); err != nil {
			return nil, fault.Invalid("patterns of what to exclude %q: %v", r.exclude, err)
		}
	}
	return m, nil
}

// ways returns nil if a pattern has wildcards that are not its end.
func ways(m *patternmatcher.PatternMatcher, exceptions bool) []string {
	list := []string{}
	for _, p := range m.Patterns() {
		if p.Exclusion() != exceptions {
			continue
		}
		way := strings.TrimSuffix(strings.TrimSuffix(p.String(), "/**"), "/*")
		if strings.ContainsAny(way, `*[]?^\`) {
			return nil
		}
		list = append(list, way+"/")
	}
	return list
}

// get returns matchers for one goroutine, which puts them back.
func (r *rules) get() (*matchers, error) {
	if m, ok := r.pool.Get().(*matchers); ok {
		return m, nil
	}
	return r.compile()
}

func (r *rules) put(m *matchers) { r.pool.Put(m) }

// decide says whether name belongs to the context, and if it is a directory
// whether to look into it.
func (r *rules) decide(m *matchers, name string, dir bool, above state) (shown, enter bool, at state, err error) {
	shown, enter = true, dir
	if m.include != nil {
		ok, info, err := m.include.MatchesUsingParentResults(name, above.include)
		if err != nil {
			return false, false, at, fault.Invalid("patterns of what to include %q: %v", r.include, err)
		}
		at.include = info
		if !ok {
			shown, enter = false, dir && leads(r.includeWays, name)
		}
	}
	if m.exclude != nil && (shown || enter) {
		ok, info, err := m.exclude.MatchesUsingParentResults(name, above.exclude)
		if err != nil {
			return false, false, at, fault.Invalid("patterns of what to exclude %q: %v", r.exclude, err)
		}
		at.exclude = info
		if ok {
			shown = false
			enter = enter && (r.exceptionWays == nil || !r.onlyExcludes && leads(r.exceptionWays, name))
		}
	}
	return shown, enter, at, nil
}

// leads says whether one of the ways goes through the directory.
func leads(ways []string, dir string) bool {
	if ways == nil {
		return true
	}
	for _, w := range ways {
		if strings.HasPrefix(w, dir) && strings.HasPrefix(w[len(dir):], "/") {
			return true
		}
	}
	return false
}
