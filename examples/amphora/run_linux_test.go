package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func testRunCodes(t *testing.T, c *cli) {
	c.is("hello", "run", "--rm", "box", "echo", "hello")
	c.run("run", "--rm", "box", "sh", "-c", "exit 7").want(t, 7, "")
	c.fails(127, "nosuch", "run", "--rm", "box", "nosuch")
	c.fails(126, "/etc/passwd", "run", "--rm", "box", "/etc/passwd")
	c.fails(125, "unknown flag: --frob", "run", "--frob", "box")
	c.fails(125, "absent", "run", "--pull", "never", "absent")
	c.fails(125, "an image is required", "run")
	c.fails(125, "64 MiB or so", "run", "--memory", "64 MiB or so", "box")
	c.is("", "ps", "-aq") // nothing of all this is left
	if r := c.run("run", "--name", "kept", "box", "nosuch"); r.code != 127 {
		t.Errorf("code %d without --rm", r.code)
	}
	c.is("created", "inspect", "-f", "{{.Status}}", "kept")
}

func testRunFlagsReachTheContainer(t *testing.T, c *cli) {
	file := filepath.Join(c.dir, "env")
	if err := os.WriteFile(file, []byte("# comment\nA=1\nB=from file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(c.dir, "bound"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.is("1 over", "run", "--rm", "--env-file", file, "-e", "B=over", "box", "sh", "-c", "echo $A $B")
	c.is("/tmp", "run", "--rm", "-w", "/tmp", "box", "pwd")
	c.is("alice", "run", "--rm", "-u", "alice", "box", "whoami")
	c.is("there", "run", "--rm", "-h", "there", "box", "hostname")
	c.is("x y", "run", "--rm", "--entrypoint", "/bin/echo", "box", "x", "y")
	c.is("in", "run", "--rm", "-v", filepath.Join(c.dir, "bound")+":/b", "--tmpfs", "/t", "box", "sh", "-c", "echo in > /b/f; echo in > /t/f; cat /t/f")
	if data, err := os.ReadFile(filepath.Join(c.dir, "bound", "f")); string(data) != "in\n" {
		t.Errorf("bound file: %q, %v", data, err)
	}
	if r := c.run("run", "--rm", "--read-only", "box", "touch", "/x"); r.code == 0 || !strings.Contains(r.stderr, "read-only") {
		t.Errorf("--read-only: %+v", r)
	}
	c.run("run", "--rm", "-m", "32m", "--memory-swap", "32m", "box", "memhog", "64m").want(t, 137, "")
	r := c.runInput([]byte("a\nb\n"), "run", "--rm", "-i", "box", "cat")
	r.want(t, 0, "a\nb\n")
	r = c.run("run", "--rm", "box", "sh", "-c", "echo out; echo err >&2")
	if r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("streams: %+v", r)
	}
	cid := filepath.Join(c.dir, "cid")
	c.ok("run", "--cidfile", cid, "--name", "cid", "-l", "k=v", "box", "true")
	if id, _ := os.ReadFile(cid); string(id) != c.ok("ps", "-aq", "--no-trunc", "--filter", "label=k=v") {
		t.Errorf("cid file: %q", id)
	}
	c.fails(125, "exists", "run", "--cidfile", cid, "box", "true")
	c.fails(125, "cid", "run", "--name", "cid", "box", "true")
}

func testDetached(t *testing.T, c *cli) {
	id := c.ok("run", "-d", "--name", "bg", "box", "trap", "-x", "3")
	if len(id) != 64 {
		t.Errorf("printed %q, want an id", id)
	}
	logs := c.start("logs", "-f", "bg")
	logs.await(t, "trap ready")
	c.is("Up", "ps", "--format", `{{slice .Status 0 2}}`)
	c.is(id, "ps", "-q", "--no-trunc", "-f", "name=bg")
	c.ok("kill", "-s", "USR1", "bg")
	logs.await(t, "trap got 10")
	wait := c.start("wait", "bg")
	c.is("bg", "stop", "bg")
	if code := logs.code(); code != 0 {
		t.Errorf("logs -f ends with %d", code)
	}
	if wait.code(); wait.String() != "3\n" {
		t.Errorf("wait printed %q", wait.String())
	}
	c.is("trap got 15 terminated", "logs", "-n", "1", "bg")
	if line := c.ok("logs", "-t", "--tail", "1", "bg"); len(line) < 31 || line[29:31] != "Z " {
		t.Errorf("logs -t: %q", line)
	}
	c.is("", "logs", "--since", "2200-01-01", "bg")
	if line := c.ok("ps", "-a"); !strings.Contains(line, "Exited (3)") || !strings.Contains(line, `"trap -x 3"`) {
		t.Errorf("ps -a:\n%s", line)
	}
	c.is("bg", "start", "bg")
	c.is("bg", "pause", "bg")
	c.is("paused", "inspect", "-f", "{{.Status}}", "bg")
	c.fails(1, "paused", "exec", "bg", "true")
	c.is("bg", "unpause", "bg")
	c.is("bg", "restart", "-t", "0", "bg")
	c.fails(1, "-f", "rm", "bg")
	c.is("bg", "rm", "-f", "bg")
	c.fails(1, "bg", "logs", "bg")
}

func testSignalsReachTheContainer(t *testing.T, c *cli) {
	run := c.start("run", "--rm", "box", "trap", "-x", "5")
	run.await(t, "ready")
	run.cmd.Process.Signal(syscall.SIGINT)
	run.await(t, "got 2")
	run.cmd.Process.Signal(syscall.SIGUSR1)
	run.await(t, "got 10")
	run.cmd.Process.Signal(syscall.SIGTERM)
	if code := run.code(); code != 5 {
		t.Errorf("code %d", code)
	}
}

func testExec(t *testing.T, c *cli) {
	c.ok("run", "-d", "--name", "ex", "-e", "A=1", "box", "pause")
	c.is("1 2", "exec", "-e", "B=2", "ex", "sh", "-c", "echo $A $B")
	c.is("/tmp", "exec", "-w", "/tmp", "ex", "pwd")
	c.is("alice", "exec", "-u", "alice", "ex", "whoami")
	c.run("exec", "ex", "sh", "-c", "exit 9").want(t, 9, "")
	c.fails(127, "nosuch", "exec", "ex", "nosuch")
	c.fails(126, "permission", "exec", "ex", "/etc/passwd")
	c.fails(1, "nobody", "exec", "nobody", "true")
	c.runInput([]byte("abc"), "exec", "-i", "ex", "cat").want(t, 0, "abc")
	c.ok("exec", "-d", "ex", "sh", "-c", "echo done > /tmp/mark; sleep 1000")
	eventually(t, "the detached process ran", func() bool { return c.run("exec", "ex", "cat", "/tmp/mark").stdout == "done\n" })
	if ps := c.ok("exec", "ex", "ps"); !strings.Contains(ps, "sleep 1000") {
		t.Errorf("the detached process ended with its client:\n%s", ps)
	}
}

// testKilledClient: run's container goes on when its client is killed, and is
// removed at its end all the same.
func testKilledClient(t *testing.T, c *cli) {
	run := c.start("run", "--rm", "-i", "--name", "kc", "box", "trap", "-x", "0")
	run.await(t, "ready")
	run.cmd.Process.Kill()
	run.code()
	c.is("running", "inspect", "-f", "{{.Status}}", "kc")
	c.is("trap ready", "logs", "kc")
	c.ok("stop", "kc")
	eventually(t, "it is removed", func() bool { return c.ok("ps", "-aq") == "" })
}

func testNames(t *testing.T, c *cli) {
	id := c.ok("create", "--name", "one", "box", "echo", "hi")
	c.ok("rename", "one", "two")
	c.is(id, "inspect", "-f", "{{.ID}}", "two")
	c.is(id, "inspect", "-f", "{{.ID}}", id[:7])
	c.is("hi", "start", "-a", "two")
	c.fails(1, "one", "rm", "one")
	r := c.run("rm", "nope", "two", "nada")
	if r.code != 1 || r.stdout != "two\n" || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("rm of one of three: %+v", r)
	}
	c.fails(1, "not running", "attach", c.ok("create", "box", "true"))
	c.fails(1, `requires at least 1 argument`, "stop")
	c.fails(1, `"frob" is not a command`, "frob")
	c.fails(1, `"frob" is not a command`, "volume", "frob")
	for _, args := range [][]string{{"help"}, {"run", "--help"}, {"run", "-h"}, {"help", "volume", "ls"}, {"volume"}} {
		if out := c.ok(args...); !strings.HasPrefix(out, "Usage:  amphora") {
			t.Errorf("%q: %q", args, out)
		}
	}
}
