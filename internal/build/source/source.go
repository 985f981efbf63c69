// Package source fetches what builds take from elsewhere: files by HTTP and
// commits of git repositories. What it downloads is kept in directories that
// the caller hands out, so that a build asks the server only whether something
// changed.
package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/internal/fault"
)

// Dir is a directory that one user has at a time.
type Dir interface {
	Path() string
	Close() error
}

// Fetcher fetches the sources of one build. It may be used by any number of
// goroutines. What HTTP and Git found is what PutHTTP and PutGit give for the
// same op, whatever the server has by then.
type Fetcher struct {
	// Dirs begins the use of the directory of a kind of source ("http",
	// "git") in which what key stands for is kept between builds.
	Dirs func(ctx context.Context, kind, key string) (Dir, error)
	// Secret returns a secret; false if there is none with that id. Nil: there
	// are none.
	Secret func(ctx context.Context, id string) ([]byte, bool, error)
	// Agent returns the path of an SSH agent's socket. Nil: there are none.
	Agent func(ctx context.Context, id string) (socket string, err error)
	// Client makes the requests of HTTP; nil: one with Go's default transport.
	// Its CheckRedirect is not called.
	Client *http.Client
	// AllowFile allows git repositories of this machine by file:// URLs.
	AllowFile bool

	mu    sync.Mutex
	files map[string]*HTTPFile // by identify
	refs  map[string]*resolved // by identify
}

// use begins the use of a directory, and takes away what a killed process has
// begun in it.
func (f *Fetcher) use(ctx context.Context, kind, key string) (Dir, error) {
	d, err := f.Dirs(ctx, kind, key)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.Path())
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), begun) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.Path(), e.Name())))
		}
	}
	if err != nil {
		d.Close()
		return nil, fault.Opaque(err)
	}
	return d, nil
}

// begun begins the names of what is not complete.
const begun = "new-"

// identify is an op as a string.
func identify(v any) string {
	data, _ := json.Marshal(v) // ops are plain structs, this does not fail
	return string(data)
}

// hashed condenses strings to 64 hex digits; different lists give different
// ones.
func hashed(parts ...string) string {
	data, _ := json.Marshal(parts)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// plain is a URL as texts may have it: user, password and query are often
// secrets.
func plain(u *url.URL) string {
	c := *u
	c.User, c.RawQuery, c.ForceQuery, c.Fragment, c.RawFragment = nil, "", false, "", ""
	return c.String()
}

// secret returns a secret that must be there.
func (f *Fetcher) secret(ctx context.Context, id string) (string, bool, error) {
	if f.Secret == nil {
		return "", false, nil
	}
	data, ok, err := f.Secret(ctx, id)
	if err != nil || !ok {
		return "", false, err
	}
	value := strings.TrimSpace(string(data))
	if strings.ContainsAny(value, "\r\n\x00") {
		return "", false, fault.Invalid("secret %q has several lines: it cannot be a header's value", id)
	}
	return value, true, nil
}

// permissions converts a mode as tar and chmod have it.
func permissions(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
