package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// git runs the program git for one repository, with nothing of the user's
// configuration and with secrets in its environment alone.
type git struct {
	program string
	dir     string // where it keeps the repository
	env     []string
	hide    []string // secrets that its messages must not have
}

// inherited is what of this process' environment git gets: it finds programs,
// proxies and certificates as this process does.
var inherited = []string{"PATH", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT"}

// command prepares git for a remote, with what o says about access.
func (f *Fetcher) command(ctx context.Context, o *op.Git, r *remote, dir string) (*git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fault.Unsupported("git repositories need the program git: install it (package git)")
	}
	g := &git{program: program, dir: dir}
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			g.env = append(g.env, name+"="+v)
		}
	}
	protocols := "http:https:ssh:git"
	if f.AllowFile {
		protocols += ":file"
	}
	g.env = append(g.env, "GIT_ALLOW_PROTOCOL="+protocols, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "LC_ALL=C", "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	config := []string{"core.hooksPath", os.DevNull, "gc.auto", "0", "maintenance.auto", "false", "advice.detachedHead", "false",
		"core.logAllRefUpdates", "false", "init.defaultBranch", "main", "core.fsmonitor", "false"}
	if r.web {
		auth, err := f.authorization(ctx, o, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.shown, err)
		}
		if auth != "" {
			// A server that redirects elsewhere would get the header there.
			config = append(config, "http."+r.scope()+".extraheader", "Authorization: "+auth, "http."+r.scope()+".followRedirects", "false")
			g.hide = append(g.hide, auth, auth[strings.LastIndexByte(auth, ' ')+1:])
		}
	}
	g.env = append(g.env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)/2))
	for i := range len(config) / 2 {
		n := strconv.Itoa(i)
		g.env = append(g.env, "GIT_CONFIG_KEY_"+n+"="+config[2*i], "GIT_CONFIG_VALUE_"+n+"="+config[2*i+1])
	}
	return g, f.secureShell(ctx, o, r, g)
}

// authorization is the value of the header that opens a repository.
func (f *Fetcher) authorization(ctx context.Context, o *op.Git, r *remote) (string, error) {
	if o.HeaderSecret != "" {
		value, ok, err := f.secret(ctx, o.HeaderSecret)
		if err != nil || ok {
			return value, err
		}
	}
	if o.TokenSecret != "" {
		value, ok, err := f.secret(ctx, o.TokenSecret)
		if err != nil {
			return "", err
		}
		if ok {
			return basic("x-access-token", value), nil
		}
	}
	return r.auth, nil
}

// secureShell sets how git calls ssh: without the user's configuration, with
// the agent of the build and the hosts' keys that it knows. Without these the
// key of a host is trusted when it is first seen, and has to stay.
func (f *Fetcher) secureShell(ctx context.Context, o *op.Git, r *remote, g *git) error {
	known, strict := filepath.Join(g.dir, "known_hosts"), "accept-new"
	if o.KnownHosts != "" {
		known, strict = filepath.Join(g.dir, "known_hosts.build"), "yes"
		if err := os.WriteFile(known, []byte(o.KnownHosts+"\n"), 0o600); err != nil {
			return fault.Opaque(err)
		}
	}
	// ssh splits the value at spaces and expands %; a shell reads the line.
	known = `UserKnownHostsFile="` + strings.ReplaceAll(known, "%", "%%") + `"`
	g.env = append(g.env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND=ssh -F none -o BatchMode=yes -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking="+
		strict+" -o '"+strings.ReplaceAll(known, "'", `'\''`)+"'")
	if !r.ssh || o.SSH == "" {
		return nil
	}
	if f.Agent == nil {
		return fault.Invalid("%s: the build was given no SSH agent %q", r.shown, o.SSH)
	}
	socket, err := f.Agent(ctx, o.SSH)
	if err != nil {
		return fmt.Errorf("%s: SSH agent %q: %w", r.shown, o.SSH, err)
	}
	g.env = append(g.env, "SSH_AUTH_SOCK="+socket)
	return nil
}

// with returns g with more environment.
func (g *git) with(env ...string) *git {
	c := *g
	c.env = append(g.env[:len(g.env):len(g.env)], env...)
	return &c
}

// run runs git in dir and returns what it printed. When ctx ends, git and all
// that it started are killed.
func (g *git) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, g.program, args...)
	cmd.Dir, cmd.Env = dir, g.env
	var out bytes.Buffer
	trouble := &tail{}
	cmd.Stdout, cmd.Stderr = &out, trouble
	inGroup(cmd)
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, fault.Opaque(fmt.Errorf("git: %w", err))
	}
	text := strings.TrimSpace(string(trouble.last))
	for _, s := range g.hide {
		text = strings.ReplaceAll(text, s, "*****")
	}
	return nil, fmt.Errorf("git %s: %w: %s", args[0], err, text)
}

// tail keeps the end of what is written to it.
type tail struct{ last []byte }

// tailSize is enough for git's last messages.
const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last = t.last[over:]
	}
	return len(p), nil
}
