package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandChangesItsLayer(t *testing.T) {
	b := newBench(t)
	s := b.step("echo hi; write /new data; rm /etc/group; mkdir /data/sub")
	s.Exec.Env = []string{"A=b"}
	b.equal(b.output(s), "hi")
	b.has(s.Layer, "data/", "data/sub/", "etc/", "etc/group (gone)", "new")
	if _, err := os.Stat(filepath.Join(b.base, "etc/group")); err != nil {
		t.Error(err)
	}
}

func TestExitCode(t *testing.T) {
	b := newBench(t)
	s := b.step("echo oh >&2; exit 3")
	_, stderr := s.collect()
	e := exitOf(t, b.Run(t.Context(), s))
	if e.Code != 3 || stderr.String() != "oh\n" || e.Error() != `process "sh -c echo oh >&2; exit 3" did not complete successfully: exit code: 3` {
		t.Errorf("%v, %q", e, stderr)
	}
	s.Exec.ExitCodes = []int{3}
	if err := b.Run(t.Context(), s); err != nil {
		t.Error(err)
	}
	s = b.step("")
	s.Exec.Args = []string{"no-such-command"}
	err := b.fails(s)
	if e := exitOf(t, err); e.Code != 127 || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%+v", e)
	}
	s.Exec.Args = []string{"/etc/passwd"}
	if e := exitOf(t, b.fails(s)); e.Code != 126 {
		t.Errorf("%+v", e)
	}
	b.clean()
}

func TestProcess(t *testing.T) {
	b := newBench(t)
	s := b.step("id; pwd; hostname; env; umask")
	s.Exec.User, s.Exec.Dir = "alice", "/made/here"
	s.Exec.Env, s.Exec.Proxy = []string{"A=b", "https_proxy=own"}, []string{"http_proxy=p", "https_proxy=q"}
	out := b.output(s)
	for _, want := range []string{"alice", "wheel", "/made/here\n", "buildkitsandbox\n", "A=b\n", "http_proxy=p\n", "https_proxy=own\n", "HOME=/home/alice", "PATH=/usr/local/sbin:", "0022"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	b.has(s.Layer, "made/", "made/here/")
	s = b.step("id")
	s.Exec.User = "carol"
	b.fails(s, "carol")
}

func TestOnScratch(t *testing.T) {
	b := newBench(t)
	first := b.layer()
	s := b.step("write /made x")
	s.Layer, s.Root = first, Tree{}
	s.Exec.Args = []string{"/tools/sh", "-c", "/tools/write /made x"}
	b.fails(s) // there is nothing to execute
	program := filepath.Join(b.dir, "static")
	must(t, os.MkdirAll(filepath.Join(program, "bin"), 0o755))
	data, err := os.ReadFile(filepath.Join(b.base, "bin/testbox"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(program, "bin/write"), data, 0o755))
	s.Root = Tree{Lower: []string{program}}
	s.Exec.Args = []string{"write", "/made", "x"}
	s.Layer = b.layer()
	b.output(s)
	b.has(s.Layer, "made")
}

func TestCancelLeavesNothing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := b.step("echo started; sleep 1000")
	s.Exec.Network = ""
	s.Output = func(bool, []byte) { cancel() }
	if err := b.Run(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	b.clean()
	if err := b.Run(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
