package registry

import (
	"regexp"
	"strings"
	"sync"
)

type kind int

const (
	kindRoot kind = iota
	kindCatalog
	kindManifest
	kindBlob
	kindUploads // where uploads begin
	kindUpload
	kindTags
	kindReferrers
)

// routed is what a path asks for.
type routed struct {
	kind kind
	repo string
	what string // tag, digest or upload
}

// Names by the specification's own expressions.
var (
	repoRE = lazy(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE  = lazy(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// maxName is the length that clients count with, host included.
const maxName = 255

// route reads a path. Repositories may be called like the words that the API
// uses, so it is read from its end.
func route(path string) (*routed, error) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || ok && rest == "":
		return &routed{kind: kindRoot}, nil
	case rest == "_catalog":
		return &routed{kind: kindCatalog}, nil
	case !ok:
		return nil, errNoRoute
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	if n < 3 {
		return nil, errNoRoute
	}
	rt := &routed{what: parts[n-1]}
	repo := parts[:n-2]
	switch word := parts[n-2]; {
	case word == "tags" && rt.what == "list":
		rt.kind = kindTags
	case word == "manifests":
		rt.kind = kindManifest
	case word == "uploads" && n > 3 && parts[n-3] == "blobs":
		repo, rt.kind = parts[:n-3], kindUpload
		if rt.what == "" {
			rt.kind = kindUploads
		}
	case word == "blobs" && rt.what == "uploads":
		rt.kind = kindUploads
	case word == "blobs":
		rt.kind = kindBlob
	case word == "referrers":
		rt.kind = kindReferrers
	default:
		return nil, errNoRoute
	}
	rt.repo = strings.Join(repo, "/")
	if len(rt.repo) > maxName || !repoRE().MatchString(rt.repo) {
		return nil, errName
	}
	return rt, nil
}
