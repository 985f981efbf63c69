package image

import (
	"regexp"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/internal/fault"
)

// Ref is a reference to an image in a registry: docker.io/library/alpine:3.22.
// The zero Ref is no reference.
type Ref struct {
	Registry   string // host, with its port if any: "docker.io", "localhost:5000"
	Repository string // path below it: "library/alpine"
	Tag        string // "" only when there is a Digest
	Digest     string // "sha256:..." or ""
}

const (
	defaultRegistry = "docker.io"
	officialPrefix  = "library/"
	defaultTag      = "latest"
	// maxName is the limit of registry and repository together that Docker has
	// and that registries build on.
	maxName = 255
)

// Compiled when first needed: every helper process pays for what is done at
// its start.
var (
	hostRE      = lazy(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$`)
	componentRE = lazy(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
	tagRE       = lazy(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$`)
	digestRE    = lazy(`^sha256:[0-9a-f]{64}$`)
	idRE        = lazy(`^[0-9a-f]{64}$`)
)

func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// ParseRef reads a reference as Docker does: a first component with a dot or
// a port, or "localhost", is a registry, else it is docker.io; a single
// component there lies below "library/"; without tag and digest the tag is
// "latest". Errors Is fs.ErrInvalid and say what is wrong.
func ParseRef(s string) (Ref, error) {
	r, err := parseRef(s)
	if err != nil {
		return Ref{}, fault.New("image reference", quoteEmpty(s), err)
	}
	return r, nil
}

func quoteEmpty(s string) string {
	if strings.TrimSpace(s) == "" {
		return `"` + s + `"`
	}
	return s
}

func parseRef(s string) (Ref, error) {
	switch {
	case s == "":
		return Ref{}, fault.Invalid("is empty; want a name such as alpine, alpine:3.22 or registry.example/team/app:v1")
	case strings.Contains(s, "://"):
		return Ref{}, fault.Invalid("is a URL; leave the scheme away (a registry without TLS is named in Insecure)")
	case idRE().MatchString(s):
		return Ref{}, fault.Invalid("64 hex digits are an image id, not a name")
	}
	rest, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest && !digestRE().MatchString(digest) {
		return Ref{}, fault.Invalid("digest %q is malformed: want sha256: and 64 lower-case hex digits", digest)
	}
	r := Ref{Registry: defaultRegistry, Digest: digest}
	if host, path, ok := strings.Cut(rest, "/"); ok && isHost(host) {
		r.Registry, rest = host, path
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !tagRE().MatchString(r.Tag) {
			return Ref{}, fault.Invalid("tag %q is malformed: want up to 128 letters, digits, dots, dashes and underscores, beginning with none of the first two signs", r.Tag)
		}
	}
	r.Repository = rest
	return r, r.complete()
}

// isHost says whether the first component of a name is a registry.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:[") || s == "localhost" || strings.ToLower(s) != s
}

// complete checks the parts and fills in the defaults.
func (r *Ref) complete() error {
	if r.Registry == "index.docker.io" {
		r.Registry = defaultRegistry
	}
	if !hostRE().MatchString(r.Registry) {
		return fault.Invalid("registry %q is malformed: want a host name or address, with :port if need be", r.Registry)
	}
	if r.Repository == "" {
		return fault.Invalid("names no repository")
	}
	if r.Registry == defaultRegistry && !strings.Contains(r.Repository, "/") {
		r.Repository = officialPrefix + r.Repository
	}
	for _, c := range strings.Split(r.Repository, "/") {
		switch {
		case componentRE().MatchString(c):
		case strings.ToLower(c) != c && componentRE().MatchString(strings.ToLower(c)):
			return fault.Invalid("repository names are lower case: %q would be %q", c, strings.ToLower(c))
		case c == "":
			return fault.Invalid("repository %q has an empty component", r.Repository)
		default:
			return fault.Invalid("component %q is malformed: want lower-case letters and digits, with single dots, underscores or dashes between them", c)
		}
	}
	if len(r.Registry)+1+len(r.Repository) > maxName {
		return fault.Invalid("the name is longer than %d characters", maxName)
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return nil
}

// Name is the reference without tag and digest: docker.io/library/alpine.
func (r Ref) Name() string { return r.Registry + "/" + r.Repository }

// String is the canonical form: docker.io/library/alpine:latest. ParseRef
// gives the same Ref back.
func (r Ref) String() string { return r.Name() + r.suffix() }

// Familiar is the short form that Docker shows: alpine:latest.
func (r Ref) Familiar() string {
	name := r.Name()
	if r.Registry == defaultRegistry {
		name = strings.TrimPrefix(r.Repository, officialPrefix)
		if strings.Contains(name, "/") || isHost(name) {
			name = r.Repository // library/a/b is not short for anything
		}
	}
	return name + r.suffix()
}

func (r Ref) suffix() string {
	var s string
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// stored is the form under which a pull keeps a name: with a digest the tag
// says nothing, as in Docker.
func (r Ref) stored() Ref {
	if r.Digest != "" {
		r.Tag = ""
	}
	return r
}
