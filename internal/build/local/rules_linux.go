package local

import (
	"path"
	"slices"
	"strings"

	"github.com/tonistiigi/fsutil"

	"github.com/amphora-go/amphora/internal/fault"
)

// rules decide which names belong to a context, as fsutil's FilterFS does. A
// directory that does not match may hold names that do.
type rules struct {
	include, exclude *patterns // nil: none
	// Where the patterns that could match below a directory are plain paths,
	// these are their beginnings, with "/": other directories are not entered.
	// nil: any directory may hold something.
	includeWays, exceptionWays []string
}

// state is what patterns said of a directory, for what is below it.
type state struct{ include, exclude []bool }

// newRules reads the links that f follows below root.
func newRules(root string, f *Filter) (*rules, error) {
	r := &rules{}
	if f == nil {
		return r, nil
	}
	include := slices.Clone(f.Include)
	if f.Follow != nil {
		targets, err := follow(root, f.Follow)
		if err != nil {
			return nil, err
		}
		if targets != nil { // else the root is one of them
			include = covering(append(include, targets...))
		}
	}
	var err error
	if r.include, err = newPatterns(include); err != nil {
		return nil, fault.Invalid("patterns of what to include %q: %v", include, err)
	}
	if r.exclude, err = newPatterns(f.Exclude); err != nil {
		return nil, fault.Invalid("patterns of what to exclude %q: %v", f.Exclude, err)
	}
	r.includeWays, r.exceptionWays = ways(r.include, false), ways(r.exclude, true)
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

// ways returns nil if a pattern has wildcards that are not its end.
func ways(p *patterns, exceptions bool) []string {
	if p == nil {
		return nil
	}
	list := []string{}
	for _, p := range p.list {
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

// decide says whether name belongs to the context, and if it is a directory
// whether to look into it.
func (r *rules) decide(name string, dir bool, above state) (shown, enter bool, at state, err error) {
	shown, enter = true, dir
	if r.include != nil {
		ok, info, err := r.include.match(name, above.include, dir)
		if err != nil {
			return false, false, at, fault.Invalid("patterns of what to include: %v", err)
		}
		at.include = info
		if !ok {
			shown, enter = false, dir && leads(r.includeWays, name)
		}
	}
	if r.exclude != nil && (shown || enter) {
		ok, info, err := r.exclude.match(name, above.exclude, dir)
		if err != nil {
			return false, false, at, fault.Invalid("patterns of what to exclude: %v", err)
		}
		at.exclude = info
		if ok {
			shown = false
			enter = enter && leads(r.exceptionWays, name)
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
