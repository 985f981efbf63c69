package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testCopy(t *testing.T, c *cli) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("run", "-d", "--name", "cc", "--network", "none", "box", "pause")
	r := c.run("cp", file, "cc:/tmp/")
	if r.want(t, 0, ""); !strings.HasPrefix(r.stderr, "Successfully copied ") || !strings.HasSuffix(r.stderr, " to cc:/tmp/\n") {
		t.Errorf("%q", r.stderr)
	}
	c.is("hello", "exec", "cc", "cat", "/tmp/f")
	if r := c.run("cp", "-q", "cc:/tmp/f", filepath.Join(dir, "back")); r.code != 0 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "back")); string(b) != "hello" {
		t.Errorf("%q came back", b)
	}
	tar := c.run("cp", "cc:/tmp/.", "-")
	tar.want(t, 0, "hello")
	c.ok("exec", "cc", "mkdir", "/new")
	c.runInput([]byte(tar.stdout), "cp", "-", "cc:/new").want(t, 0, "")
	c.is("hello", "exec", "cc", "cat", "/new/f")
	c.fails(1, "copying between containers is not supported", "cp", "cc:/a", "cc:/b")
	c.fails(1, "must specify at least one container source", "cp", "/a", "./c:b")
	c.fails(1, "does not exist", "cp", "cc:/none", dir)
	c.fails(1, "is no directory", "cp", "-", "cc:/tmp/f")
}

func testCommit(t *testing.T, c *cli) {
	c.ok("run", "--name", "cc", "--network", "none", "box", "sh", "-c", "mkdir /d; write /d/e e")
	c.is("A /d\nA /d/e", "diff", "cc")
	out := filepath.Join(t.TempDir(), "out.tar")
	c.is("", "export", "-o", out, "cc")
	if b, err := os.ReadFile(out); err != nil || !strings.Contains(string(b), "d/e\x00") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	c.run("commit", "-m", "why", "-c", `CMD ["cat","/d/e"]`, "cc", "made:1").want(t, 0, "sha256:")
	c.is("e", "run", "--rm", "--network", "none", "made:1")
	c.run("history", "made:1").want(t, 0, "why")
	c.fails(1, "none of CMD", "commit", "-c", "FROM x", "cc")
}

func testStats(t *testing.T, c *cli) {
	c.ok("run", "-d", "--name", "cc", "-m", "64m", "box", "sleep", "1000")
	c.run("stats", "--no-stream").want(t, 0, "CONTAINER ID")
	c.run("stats", "--no-stream", "cc").want(t, 0, " / 64MiB")
	c.is("cc", "stats", "--no-stream", "--format", "{{.Name}}", "cc")
	c.run("top", "cc").want(t, 0, "sleep 1000")
	c.run("top", "cc", "-o", "pid,comm").want(t, 0, "PID")
	c.ok("stop", "-t", "0", "cc")
	c.fails(1, "is not running", "top", "cc")
	c.run("stats", "-a", "--no-stream").want(t, 0, "cc")
}

func testUpdate(t *testing.T, c *cli) {
	c.ok("run", "-d", "--name", "cc", "-m", "64m", "--network", "none", "box", "pause")
	c.is("cc", "update", "-m", "128m", "--memory-swap", "256m", "--restart", "on-failure:2", "cc")
	c.run("stats", "--no-stream", "cc").want(t, 0, " / 128MiB")
	c.is("134217728 on-failure 2", "inspect", "-f", "{{.Spec.Resources.Memory}} {{.Spec.Restart.Policy}} {{.Spec.Restart.MaxRetries}}", "cc")
	c.fails(1, "nothing to update", "update", "cc")
	c.fails(1, "6 MiB", "update", "-m", "1m", "cc")
}
