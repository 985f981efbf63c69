package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

// contextDir is a directory with these files.
func contextDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func testBuild(t *testing.T, c *cli) {
	dir := contextDir(t, map[string]string{"f": "content", "Dockerfile": `FROM box AS base
ARG WHO=nobody
COPY f /f
RUN --network=none write /who "$WHO"
FROM base
RUN --network=none --mount=type=secret,id=s cat /run/secrets/s > /dev/null
CMD ["cat", "/who"]
`})
	out := t.TempDir()
	id, meta := filepath.Join(out, "id"), filepath.Join(out, "meta")
	args := []string{"build", "--progress=plain", "-t", "shop", "-t", "shop:2", "--build-arg", "WHO=you", "--label", "a=b",
		"--secret", "id=s,src=" + filepath.Join(dir, "f"), "--iidfile", id, "--metadata-file", meta, dir}
	r := c.run(args...)
	if r.want(t, 0, ""); !strings.Contains(r.stderr, "RUN --network=none write /who") || !strings.Contains(r.stderr, "DONE") || r.stdout != "" {
		t.Errorf("printed %q, %q", r.stdout, r.stderr)
	}
	c.is("you", "run", "--rm", "--network", "none", "shop:2")
	data, _ := os.ReadFile(id)
	c.is(string(data), "inspect", "--format", "{{.ID}}", "shop")
	var m map[string]any
	data2, _ := os.ReadFile(meta)
	if err := json.Unmarshal(data2, &m); err != nil || m["containerimage.config.digest"] != string(data) || m["image.name"] != "docker.io/library/shop:latest,docker.io/library/shop:2" {
		t.Errorf("metadata %s, %v", data2, err)
	}
	if again := c.run(args...); strings.Contains(again.stderr, "#4 DONE") || !strings.Contains(again.stderr, "CACHED") {
		t.Errorf("built again: %s", again.stderr)
	}
	c.run("build", "--no-cache", "--secret", "id=s,src=/nonexistent", dir).want(t, 1, "secret s")
	c.ok("build", "-q", "--target", "base", "-t", "base", dir)
	c.run("build", "-t", "bad", "-f", writeFile(t, "FROM box\nRUN --network=none exit 3\n"), dir).want(t, 1, "exit code: 3")
	c.fails(1, "no such container, image", "inspect", "bad")
	c.fails(1, "is not a directory", "build", "/nonexistent")
	c.fails(125, "unknown", "build", "--progress=loud", dir)
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Dockerfile")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func testBuildOutputs(t *testing.T, c *cli) {
	dir := contextDir(t, map[string]string{"f": "content", "Dockerfile": "FROM scratch\nCOPY f /d/f\n"})
	out := t.TempDir()
	c.ok("build", "-q", "-o", filepath.Join(out, "files"), dir)
	if data, err := os.ReadFile(filepath.Join(out, "files/d/f")); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	if r := c.run("build", "--progress=quiet", "-o", "-", dir); r.code != 0 || !strings.Contains(r.stdout, "d/f") {
		t.Errorf("%+v", r)
	}
	archive := filepath.Join(out, "a.tar")
	c.ok("build", "-t", "shop:1", "-o", "type=docker,dest="+archive, dir)
	c.fails(1, "no such container, image", "inspect", "shop:1")
	c.ok("load", "-i", archive)
	c.ok("inspect", "shop:1")

	registry := testenv.NewRegistry(t, nil)
	name := registry.Host + "/shop:1"
	c.ok("build", "-t", name, "--push", "--cache-to", "type=inline", dir)
	c.ok("rmi", name)
	c.ok("pull", name)
	c.fails(1, "give the image a name", "build", "--push", dir)
}

func testBuildInput(t *testing.T, c *cli) {
	r := c.runInput([]byte("FROM box\nRUN --network=none write /x y\nCMD [\"cat\", \"/x\"]\n"), "build", "-q", "-t", "piped", "-")
	if r.want(t, 0, "sha256:"); r.stderr != "" {
		t.Errorf("printed %q", r.stderr)
	}
	c.is("y", "run", "--rm", "--network", "none", "piped")
	tar := testenv.Tar(t, []testenv.File{{Name: "Dockerfile", Data: []byte("FROM box\nCOPY f /x\nCMD [\"cat\", \"/x\"]\n")}, {Name: "f", Data: []byte("from the tar")}})
	c.runInput(tar, "build", "-q", "-t", "tarred", "-").want(t, 0, "sha256:")
	c.is("from the tar", "run", "--rm", "--network", "none", "tarred")
	dir := contextDir(t, map[string]string{"f": "z"})
	c.runInput([]byte("FROM box\nCOPY f /\n"), "build", "-q", "-f", "-", dir).want(t, 0, "sha256:")
	other := contextDir(t, map[string]string{"g": "other"})
	c.runInput([]byte("FROM box\nCOPY --from=more g /\nRUN --network=none cat /g\n"), "build", "-q", "-f", "-", "--build-context", "more="+other, dir).want(t, 0, "sha256:")
	c.runInput(nil, "build", "-").want(t, 1, "empty")
	r = c.runInput([]byte("FROM box\nRUNN x\n"), "build", "-")
	if r.want(t, 1, "unknown instruction"); !strings.Contains(r.stderr, ">>> RUNN x") {
		t.Errorf("no excerpt in %q", r.stderr)
	}
}
