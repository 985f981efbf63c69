package source

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// remote is where a repository is.
type remote struct {
	url   string // as git gets it and may keep it: without password
	shown string // for texts: without user too, unless that is part of the address
	auth  string // value of an Authorization header from the URL's user and password
	ssh   bool
	web   bool // http or https
}

// scp is an SSH address without scheme. No part can be taken for an option or
// for one of git's transport helpers ("ext::command").
var scp = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9_.-]*:[^:-].*$`)

func (f *Fetcher) remote(o *op.Git) (*remote, error) {
	if strings.ContainsFunc(o.Remote, control) || strings.HasPrefix(o.Remote, "-") {
		return nil, fault.Invalid("address of a git repository: it begins with a dash or has control characters")
	}
	if !strings.Contains(o.Remote, "://") {
		if !scp.MatchString(o.Remote) {
			return nil, fault.Invalid("git repository: want a URL or user@host:path")
		}
		return &remote{url: o.Remote, shown: o.Remote, ssh: true}, nil
	}
	u, err := url.Parse(o.Remote)
	if err != nil { // its text has the whole URL
		return nil, fault.Invalid("the URL of a git repository is malformed")
	}
	r := &remote{shown: plain(u)}
	switch u.Scheme {
	case "http", "https":
		r.web = true
		if u.User != nil {
			password, _ := u.User.Password()
			r.auth = basic(u.User.Username(), password)
		}
		u.User = nil
	case "ssh":
		r.ssh = true
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
	case "git":
		u.User = nil
	case "file":
		if !f.AllowFile {
			return nil, fault.Invalid("%s: repositories of this machine are not allowed: want https, http, ssh or git", r.shown)
		}
	default:
		return nil, fault.Invalid("%s: git repositories are reached by https, http, ssh or git, not by %q", r.shown, u.Scheme)
	}
	if u.Scheme != "file" && (u.Hostname() == "" || strings.HasPrefix(u.Host, "-")) || u.User != nil && strings.HasPrefix(u.User.Username(), "-") {
		return nil, fault.Invalid("%s: no usable host", r.shown)
	}
	u.Fragment, u.RawFragment = "", ""
	r.url = u.String()
	return r, nil
}

// scope is the part of the URL that configuration for its host alone has.
func (r *remote) scope() string {
	u, _ := url.Parse(r.url) // remote has parsed it
	return u.Scheme + "://" + u.Host + "/"
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// hexID is an object's full name in a repository with SHA-1 or SHA-256.
var hexID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// checkRef refuses what git could take for an option, a refspec or a pattern.
func checkRef(ref string) error {
	if strings.HasPrefix(ref, "-") || strings.HasPrefix(ref, "+") || strings.HasPrefix(ref, "/") || strings.HasSuffix(ref, "/") ||
		strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.Contains(ref, "//") ||
		strings.ContainsAny(ref, " :^~?*[\\") || strings.ContainsFunc(ref, control) || len(ref) > 1000 {
		return fault.Invalid("git reference %q: want the name of a branch or of a tag, or a commit's full id", ref)
	}
	return nil
}
