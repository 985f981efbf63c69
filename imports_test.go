package amphora_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the import path of this tree.
const module = "github.com/amphora-go/amphora"

// arrows say which packages of this module a package may import: itself aside,
// exactly these and what lies below them. A package is held to the row of its
// longest prefix. "." is the root package alone, "public" any package outside
// internal.
var arrows = map[string][]string{
	".":              {"container", "image", "network", "volume", "internal", "!image/build"},
	"container":      {"image", "network", "volume", "internal", "!image/build"},
	"image":          {"internal"},
	"network":        {"internal"},
	"volume":         {"internal"},
	"image/build":    {"image", "internal"},
	"compose":        {"internal/fault"},
	"compose/load":   {"compose", "internal/fault"},
	"compose/local":  {".", "compose", "container", "image", "network", "volume", "internal"},
	"api":            {".", "container", "image", "network", "volume", "internal"},
	"cmd":            {"internal"},
	"examples":       {"public"},
	"internal":       {"internal"},
	"internal/fault": {},
}

// owners say who alone may import a package of another module or of ours. A
// test file counts as its package.
var owners = map[string][]string{
	"github.com/moby/buildkit":                             {"image/build"},
	"github.com/compose-spec/compose-go":                   {"compose/load"},
	"github.com/moby/moby/api":                             {"api"},
	"github.com/opencontainers/runc/libcontainer":          {"internal/runtime", "internal/reexec"},
	"github.com/opencontainers/runc/libcontainer/nsenter":  {"internal/reexec"},
	"github.com/containernetworking":                       {"internal/cni", "network"},
	"github.com/google/go-containerregistry":               {"image", "internal", "api"},
	"github.com/google/go-containerregistry/pkg/v1/daemon": {},
}

// helpers lists all that the packages of the helper processes may import:
// every package in the list runs its init once more in each container's
// process (internal/reexec) or supervisor (internal/shim). Lines ending in "/"
// allow all below. Adding one is a decision: measure it with
// GODEBUG=inittrace=1 first.
var helpers = map[string][]string{
	"internal/reexec": {
		"github.com/opencontainers/runc/libcontainer", "github.com/opencontainers/runc/libcontainer/nsenter", "github.com/opencontainers/runc/libcontainer/utils",
		"github.com/sirupsen/logrus", "golang.org/x/sys/unix", // the hook that installs the seccomp filter
		"bytes", "encoding/binary", "encoding/json", "errors", "fmt", "io", "os", "os/exec", "os/signal", "runtime", "slices", "strconv", "strings", "sync", "syscall", "unsafe",
	},
	"internal/shim": {
		"internal/archive", "internal/atomicfile", "internal/attachment", "internal/boot", "internal/cgroup", "internal/cni", "internal/dns", "internal/fault", "internal/flock",
		"internal/host", "internal/journal", "internal/logs", "internal/networks", "internal/overlay", "internal/pidfd", "internal/ports", "internal/proc", "internal/record", "internal/reexec",
		"internal/recovery", "internal/rootdir", "internal/runtime", "internal/seccomp", "internal/step", "internal/store", "internal/stream", "internal/volumes",
		"internal/watch", "internal/wire",
		"github.com/hashicorp/go-multierror", "github.com/moby/sys/capability", "github.com/moby/sys/user", "github.com/opencontainers/runtime-spec/specs-go", "github.com/sirupsen/logrus",
		"golang.org/x/sys/unix", "golang.org/x/sync/",
		"bufio", "bytes", "cmp", "context", "encoding/", "errors", "fmt", "hash/", "io", "io/fs", "iter", "log/slog", "maps", "math", "math/rand/v2",
		"net", "net/netip", "os", "os/exec", "os/signal", "path", "path/filepath", "runtime", "runtime/debug", "slices", "sort", "strconv",
		"strings", "sync", "sync/atomic", "syscall", "time", "unsafe",
	},
}

// labs are for tests only.
var labs = []string{"internal/testenv", "internal/nft/netlab", "internal/firewalld/fakebus"}

// longFiles may have more than 400 lines; each needs its reason here.
var longFiles = map[string]string{}

// source is a parsed Go file of this module.
type source struct {
	file     string // slash-separated, from the module's root
	dir      string // "." for the root
	name     string // of the package
	test     bool
	external bool // package foo_test
	imports  []string
	lines    int
	linux    bool // built for Linux only, by name or by constraint
}

func TestImportDirections(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.imports {
			if why := forbidden(s, imp); why != "" {
				t.Errorf("%s imports %s: %s", s.file, imp, why)
			}
		}
	}
}

func TestImportsOfHelpers(t *testing.T) {
	for _, s := range sources(t) {
		allowed, ok := helpers[s.dir]
		if !ok || s.test {
			continue
		}
		for _, imp := range s.imports {
			if imp != "C" && !slices.ContainsFunc(allowed, func(a string) bool {
				return imp == a || imp == module+"/"+a || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a)
			}) {
				t.Errorf("%s imports %s, which is not on the list of what %s may import", s.file, imp, s.dir)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > 400 && longFiles[s.file] == "" {
			t.Errorf("%s has %d lines, more than 400: it has two subjects", s.file, s.lines)
		}
		switch strings.TrimSuffix(s.name, "_test") {
		case "util", "utils", "common", "types", "errdefs", "helpers", "misc":
			t.Errorf("%s: package %s says nothing about what is in it", s.file, s.name)
		}
		if s.linux && !s.test && public(s.dir) && !under(s.dir, "examples") {
			t.Errorf("%s is for Linux only: in a public package that belongs behind a seam in internal", s.file)
		}
	}
}

// TestArrowsForbid keeps the table honest: a rule that cannot fail is none.
func TestArrowsForbid(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"image", "internal/store", true}, {"image", "network", false}, {"network", "volume", false}, {"volume", "image", false},
		{"image", "image/build", false}, {"image/build", "image", true}, {"image/build", "container", false},
		{"internal/store", "image", false}, {"internal/store", ".", false}, {"internal/fault", "internal/step", false},
		{".", "container", true}, {".", "image/build", false}, {".", "compose", false}, {".", "api", false},
		{"container", "image", true}, {"container", ".", false}, {"compose", "container", false}, {"compose", "internal/store", false},
		{"compose/load", "compose", true}, {"compose/load", ".", false}, {"compose/local", ".", true}, {"compose/local", "image/build", true},
		{"api", ".", true}, {"api", "compose", false}, {"examples/quickstart", "api", true}, {"examples/quickstart", "internal/store", false},
		{"cmd/amphora-helper", "internal/shim", true}, {"cmd/amphora-helper", ".", false},
	} {
		why := forbidden(source{dir: c.from}, path.Join(module, c.to))
		if (why == "") != c.ok {
			t.Errorf("%s -> %s: %q, want allowed %v", c.from, c.to, why, c.ok)
		}
	}
	for from, imp := range map[string]string{
		"image": "github.com/moby/buildkit/client", "internal/shim": "github.com/opencontainers/runc/libcontainer/configs",
		"internal/runtime": "github.com/opencontainers/runc/libcontainer/nsenter", "compose": "github.com/compose-spec/compose-go/v2/types",
	} {
		if forbidden(source{dir: from}, imp) == "" {
			t.Errorf("%s may import %s", from, imp)
		}
	}
}

// forbidden says why a file must not import something; "" if it may.
func forbidden(s source, imp string) string {
	to, ours := strings.CutPrefix(imp, module)
	to = strings.TrimPrefix(to, "/")
	if to == "" {
		to = "."
	}
	if owner := longest(owners, imp); owner != "" {
		if !slices.ContainsFunc(owners[owner], func(dir string) bool { return under(s.dir, dir) }) {
			return fmt.Sprintf("only %v may import %s", owners[owner], owner)
		}
	}
	if !ours || to == s.dir {
		return ""
	}
	isLab := func(dir string) bool {
		return slices.ContainsFunc(labs, func(lab string) bool { return under(dir, lab) })
	}
	if isLab(to) {
		if s.test || isLab(s.dir) {
			return ""
		}
		return "it is for tests only"
	}
	if s.external && public(s.dir) && public(to) {
		return "" // examples of a package may show it together with others
	}
	row := longest(arrows, s.dir)
	if row == "" {
		return "this package has no row in the table of arrows"
	}
	ok := false
	for _, a := range arrows[row] {
		switch not, neg := strings.CutPrefix(a, "!"); {
		case neg && under(to, not):
			return fmt.Sprintf("%s may not import %s", row, not)
		case a == "public" && public(to), a == to, a != "." && under(to, a):
			ok = true
		}
	}
	if !ok {
		return fmt.Sprintf("%s may import only %v", row, arrows[row])
	}
	return ""
}

// longest finds the key that is the longest prefix of path, by whole elements.
func longest[V any](table map[string]V, path string) string {
	best := ""
	for key := range maps.Keys(table) {
		if (path == key || key != "." && under(path, key)) && len(key) > len(best) {
			best = key
		}
	}
	return best
}

// under reports whether dir is top or lies below it.
func under(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

func public(dir string) bool { return !under(dir, "internal") && !under(dir, "cmd") }

// sources parses every Go file of the module, whatever it is built for: go list
// would see one platform, and its answers stick in the test cache.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != "." && (err == nil || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir // bench and e2e are modules of their own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := parse(file)
		if err != nil {
			return err
		}
		if s != nil {
			all = append(all, *s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files found", len(all))
	}
	return all
}

// parse returns nil for a file that no build includes.
func parse(file string) (*source, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, data, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return nil, err
	}
	slashed := filepath.ToSlash(file)
	s := &source{
		file: slashed, dir: path.Dir(slashed), name: f.Name.Name, lines: strings.Count(string(data), "\n"),
		test: strings.HasSuffix(file, "_test.go"), external: strings.HasSuffix(f.Name.Name, "_test"),
	}
	stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(slashed), ".go"), "_test")
	s.linux = strings.HasSuffix(stem, "_linux") || strings.Contains(stem, "_linux_")
	for _, i := range f.Imports {
		imp, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		s.imports = append(s.imports, imp)
	}
	if expr := buildConstraint(f); expr != nil {
		built := func(os string) bool {
			return expr.Eval(func(tag string) bool {
				return tag == os || tag == "cgo" || tag == "amd64" || tag == "unix" && os != "windows" || strings.HasPrefix(tag, "go1.")
			})
		}
		if !built("linux") && !built("windows") && !built("darwin") {
			return nil, nil
		}
		s.linux = s.linux || built("linux") && !built("windows") && !built("darwin")
	}
	return s, nil
}

func buildConstraint(f *ast.File) constraint.Expr {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			break
		}
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil {
				return expr
			}
		}
	}
	return nil
}
