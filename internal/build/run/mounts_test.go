package run

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/build/op"
)

// secrets is a source of one secret.
func (s *Step) secrets(id, value string) {
	s.Secrets = func(_ context.Context, want string) ([]byte, bool, error) { return []byte(value), want == id, nil }
}

func TestBindMounts(t *testing.T) {
	b := newBench(t)
	b.write("one/sub/file", "lower")
	b.write("two/sub/other", "upper")
	must(t, os.Symlink("/sub", filepath.Join(b.dir, "one/link")))
	must(t, os.Symlink("/etc", filepath.Join(b.dir, "two/away")))
	tree := Tree{Lower: []string{filepath.Join(b.dir, "two"), filepath.Join(b.dir, "one")}}

	s := b.step("cat /mnt/all/sub/file /mnt/all/sub/other /mnt/part/file /mnt/single; write /mnt/all/no x || echo refused")
	s.with(op.Mount{Type: op.Bind, Target: "/mnt/all", ReadOnly: true, Output: op.Scratch}, Mount{Tree: tree})
	s.with(op.Mount{Type: op.Bind, Target: "/mnt/part", ReadOnly: true, Selector: "/link", Output: op.Scratch}, Mount{Tree: tree})
	s.with(op.Mount{Type: op.Bind, Target: "/mnt/single", ReadOnly: true, Selector: "sub/other", Output: op.Scratch}, Mount{Tree: tree})
	b.equal(b.output(s), "lowerupperlowerupperrefused")
	b.has(s.Layer)

	// A link of the tree leads nowhere but into the tree.
	s = b.step("cat /mnt/passwd").with(op.Mount{Type: op.Bind, Target: "/mnt", Selector: "/away", ReadOnly: true}, Mount{Tree: tree})
	b.fails(s, "/away", "does not exist")
	s = b.step("cat /mnt/passwd").with(op.Mount{Type: op.Bind, Target: "/mnt", Selector: "../../etc", ReadOnly: true}, Mount{Tree: tree})
	b.fails(s, "/etc", "does not exist")

	// Changes go to a layer of their own, or nowhere.
	kept := b.layer()
	s = b.step("write /rw/sub/file changed; write /keep/made x; rm /keep/sub/other; cat /rw/sub/file; write /nothing/x y")
	s.with(op.Mount{Type: op.Bind, Target: "/rw", Output: op.Scratch}, Mount{Tree: tree})
	s.with(op.Mount{Type: op.Bind, Target: "/keep", Output: 1}, Mount{Tree: tree, Layer: kept})
	s.with(op.Mount{Type: op.Bind, Target: "/nothing", Input: op.Scratch, Output: op.Scratch}, Mount{})
	b.equal(b.output(s), "changed")
	b.has(s.Layer)
	b.has(kept, "made", "sub/", "sub/other (gone)")
	if text, err := os.ReadFile(filepath.Join(b.dir, "one/sub/file")); err != nil || string(text) != "lower" {
		t.Errorf("%s, %v", text, err)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	b := newBench(t)
	s := b.step("write /x y || echo refused").with(op.Mount{Type: op.Bind, Target: "/", ReadOnly: true}, Mount{})
	s.Mounts, s.Layer = nil, nil
	b.equal(b.output(s), "refused")
	s = b.step("write /x y && cat /x").with(op.Mount{Type: op.Bind, Target: "/", Output: op.Scratch}, Mount{})
	s.Mounts, s.Layer = nil, nil
	b.equal(b.output(s), "y")
}

func TestCacheMount(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(b.dir, "cache")
	must(t, os.MkdirAll(filepath.Join(dir, "part"), 0o755))
	s := b.step("write /cache/a 1; write /sub/b 2; cat /ro/a; write /ro/c 3 || echo refused")
	s.with(op.Mount{Type: op.Cache, Target: "/cache", CacheID: "x"}, Mount{Dir: dir})
	s.with(op.Mount{Type: op.Cache, Target: "/sub", CacheID: "x", Selector: "/part"}, Mount{Dir: dir})
	s.with(op.Mount{Type: op.Cache, Target: "/ro", CacheID: "x", ReadOnly: true}, Mount{Dir: dir})
	b.equal(b.output(s), "1\nrefused")
	b.has(s.Layer)
	b.equal(strings.Join(files(t, dir), " "), "a part/ part/b")
}

func TestSecrets(t *testing.T) {
	b := newBench(t)
	const value = "hush-4711"
	s := b.step("cat /run/secrets/a; stat /run/secrets/a; env; write /run/secrets/a x || echo refused; test -e /run/secrets/b || echo none")
	s.secrets("a", value)
	s.Exec.User = "alice"
	s.with(op.Mount{Type: op.Secret, Target: "/run/secrets/a", ID: "a", UID: 1000, GID: 1000, Mode: 0o400}, Mount{})
	s.with(op.Mount{Type: op.Secret, Target: "/run/secrets/b", ID: "b", Optional: true}, Mount{})
	s.Exec.Env = []string{"TOKEN=image's"}
	s.Exec.SecretEnv = []op.SecretEnv{{ID: "a", Name: "TOKEN"}, {ID: "b", Name: "OTHER", Optional: true}}
	// Whatever is on disk while it runs is looked at by its output.
	out, _ := s.collect()
	collect, looked := s.Output, false
	s.Output = func(e bool, p []byte) {
		collect(e, p)
		if looked {
			return
		}
		looked = true
		must(t, filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "testbox") {
				return nil
			}
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), value) {
				t.Errorf("the secret is in %s", path)
			}
			return nil
		}))
	}
	if err := b.Run(t.Context(), s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{value, "TOKEN=" + value + "\n", "refused\nnone", "1000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if strings.Contains(out.String(), "image's") || !looked {
		t.Errorf("looked %v: %s", looked, out)
	}
	b.has(s.Layer)

	s = b.step("true").with(op.Mount{Type: op.Secret, Target: "/s", ID: "nope"}, Mount{})
	b.fails(s, `secret "nope" is required`)
	s = b.step("true")
	s.Exec.SecretEnv = []op.SecretEnv{{ID: "nope", Name: "X"}}
	b.fails(s, `secret "nope" is required`)
}

func TestAgent(t *testing.T) {
	b := newBench(t)
	path := filepath.Join(b.dir, "agent.sock")
	l, err := net.Listen("unix", path)
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				text, _ := io.ReadAll(c)
				c.Write([]byte("agent got " + string(text)))
				c.Close()
			}()
		}
	}()
	s := b.step("stat /run/agent.0; dial unix /run/agent.0 question")
	s.Agent = func(_ context.Context, id string) (string, error) {
		if id == "default" {
			return path, nil
		}
		return "", nil
	}
	s.Exec.User = "alice"
	s.with(op.Mount{Type: op.SSH, Target: "/run/agent.0", ID: "default", UID: 1000, GID: 1000, Mode: 0o600}, Mount{})
	s.with(op.Mount{Type: op.SSH, Target: "/run/agent.1", ID: "other", Optional: true}, Mount{})
	t.Log(b.output(s))
	b.has(s.Layer)
	s = b.step("true").with(op.Mount{Type: op.SSH, Target: "/s", ID: "nope"}, Mount{})
	b.fails(s, `agent "nope" is required`)
}

func TestTmpfs(t *testing.T) {
	b := newBench(t)
	s := b.step("write /scratch/x y; mount")
	s.with(op.Mount{Type: op.Tmpfs, Target: "/scratch", Size: 1 << 20}, Mount{})
	s.with(op.Mount{Type: op.Tmpfs, Target: "/dev/shm", Size: 2 << 20}, Mount{})
	out := b.output(s)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "/scratch") && !strings.Contains(line, "size=1024k") || strings.Contains(line, "/dev/shm") && !strings.Contains(line, "size=2048k") {
			t.Error(line)
		}
	}
	if strings.Count(out, "/dev/shm") != 1 || !strings.Contains(out, "/scratch") {
		t.Error(out)
	}
	b.has(s.Layer)
}
