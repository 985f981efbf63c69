package image

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseRef(t *testing.T) {
	for _, c := range []struct{ in, canonical, familiar string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3.22", "docker.io/library/alpine:3.22", "alpine:3.22"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"team/app", "docker.io/team/app:latest", "team/app:latest"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"},
		{"registry.example/a/b/c", "registry.example/a/b/c:latest", "registry.example/a/b/c:latest"},
		{"Registry/app", "Registry/app:latest", "Registry/app:latest"},
		{"[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"},
		{"127.0.0.1:5000/x__y/z-a.b", "127.0.0.1:5000/x__y/z-a.b:latest", "127.0.0.1:5000/x__y/z-a.b:latest"},
		{"alpine@" + someDigest, "docker.io/library/alpine@" + someDigest, "alpine@" + someDigest},
		{"alpine:3@" + someDigest, "docker.io/library/alpine:3@" + someDigest, "alpine:3@" + someDigest},
		{"app:V1_2.3-x", "docker.io/library/app:V1_2.3-x", "app:V1_2.3-x"},
	} {
		r, err := ParseRef(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if r.String() != c.canonical || r.Familiar() != c.familiar {
			t.Errorf("%s: %s and %s, want %s and %s", c.in, r, r.Familiar(), c.canonical, c.familiar)
		}
		for _, again := range []string{r.String(), r.Familiar()} {
			if got, err := ParseRef(again); err != nil || got != r {
				t.Errorf("%s does not parse back: %v, %v", again, got, err)
			}
		}
	}
}

func TestParseRefRefuses(t *testing.T) {
	for in, says := range map[string]string{
		"":                                   "empty",
		" ":                                  "malformed",
		"Alpine":                             `lower case: "Alpine" would be "alpine"`,
		"team/App":                           "lower case",
		"https://registry.example/app":       "URL",
		"alpine:":                            "tag",
		"alpine:-x":                          "tag",
		"alpine:" + strings.Repeat("x", 129): "tag",
		"alpine@sha256:abc":                  "digest",
		"alpine@md5:abc":                     "digest",
		"a//b":                               "empty component",
		"/alpine":                            "empty component",
		"alpine/":                            "empty component",
		"registry.example/":                  "repository",
		"a..b":                               "malformed",
		"../../etc/passwd":                   "malformed",
		"a b":                                "malformed",
		"-a":                                 "malformed",
		"reg.example:port/app":               "registry",
		strings.Repeat("a", 64):              "image id",
		strings.Repeat("a/", 130) + "a":      "longer",
	} {
		_, err := ParseRef(in)
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", in, err, says)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"alpine", "a.b:1/c:d@" + someDigest, "[::1]/x", "localhost/library/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			if again, err := ParseRef(form); err != nil || again != r {
				t.Errorf("%q gives %q, which gives %v, %v", s, form, again, err)
			}
		}
	})
}
