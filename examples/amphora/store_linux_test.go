package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func testImages(t *testing.T, c *cli) {
	c.ok("tag", "box", "team/box:2")
	c.is("box:latest\nteam/box:2", "images", "--format", "{{.Repository}}:{{.Tag}}")
	c.is("box", "images", "--format", "{{.Repository}}", "b*")
	id := c.ok("images", "-q", "--no-trunc", "box")
	if !strings.HasPrefix(c.ok("images"), "REPOSITORY") || len(id) != 71 {
		t.Errorf("images: %q", id)
	}
	if lines := strings.Split(c.ok("history", "box"), "\n"); len(lines) != 2 {
		t.Errorf("history: %q", lines)
	}
	var details []imageDetails
	if err := json.Unmarshal([]byte(c.ok("inspect", "box")), &details); err != nil || details[0].ID != id || len(details[0].RepoTags) != 2 {
		t.Errorf("inspect: %+v, %v", details, err)
	}
	c.is("Untagged: team/box:2", "rmi", "team/box:2")

	archive := filepath.Join(c.dir, "image.tar")
	if err := os.WriteFile(archive, testenv.DockerArchive25(t, testenv.LayeredImage(t, "example.com/app:1")), 0o644); err != nil {
		t.Fatal(err)
	}
	c.is("Loaded image: example.com/app:1", "load", "-i", archive)
	c.is("hi", "run", "--rm", "--entrypoint", "echo", "-w", "/", "-u", "root", "example.com/app:1", "hi")
	out := c.ok("rmi", "example.com/app:1")
	if !strings.HasPrefix(out, "Untagged: example.com/app:1\nDeleted: sha256:") {
		t.Errorf("rmi: %q", out)
	}
	c.ok("create", "--name", "user", "box", "true")
	c.fails(1, "box", "rmi", "box")
	c.fails(1, "nothing", "rmi", "nothing")
}

func testHouse(t *testing.T, c *cli) {
	reg := testenv.NewRegistry(t, nil)
	reg.Push(t, "app", "1", testenv.LayeredImage(t, "app:1"))
	reg.Push(t, "app", "2", testenv.LayeredImage(t, "app:2"))
	name := reg.Host + "/app"
	c.ok("pull", "-a", "-q", name)
	c.is(name+":1\n"+name+":2", "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+name)
	if out := c.ok("images", "--tree", name); !strings.Contains(out, "└─ linux/") || !strings.Contains(out, "yes") {
		t.Errorf("tree:\n%s", out)
	}
	c.fails(1, "unknown filter", "images", "-f", "colour=red")
	if out := c.ok("du", "-v"); !strings.Contains(out, name+":1") || !strings.Contains(out, "RECLAIMABLE") {
		t.Errorf("du:\n%s", out)
	}
	if out := c.ok("system", "df"); !strings.Contains(out, "Images") {
		t.Errorf("df:\n%s", out)
	}
	if out := c.ok("verify"); !strings.HasSuffix(out, "0 problems, 0 files that nothing needs") {
		t.Errorf("verify:\n%s", out)
	}
	manifest := c.ok("inspect", "-f", "{{index .RepoDigests 0}}", name+":1")
	blob := filepath.Join(c.dir, "root", "blobs/sha256", manifest[strings.LastIndex(manifest, ":")+1:])
	if err := os.WriteFile(blob, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.run("verify", "--quick"); r.code != 1 || !strings.Contains(r.stdout, "damaged") {
		t.Errorf("verify: %+v", r)
	}
	if out := c.ok("verify", "--repair"); !strings.HasSuffix(out, "1 problems, 0 left") {
		t.Errorf("repair:\n%s", out)
	}
	if out := c.ok("image", "prune", "-a", "--dry-run", "--filter", "reference="+name+":2"); !strings.Contains(out, "Would reclaim") || strings.Contains(out, ":1") {
		t.Errorf("dry run:\n%s", out)
	}
	c.runInput([]byte("n\n"), "image", "prune", "-a").want(t, 0, "[y/N]")
	if out := c.ok("image", "prune", "-a", "-f", "--filter", "reference="+name); !strings.Contains(out, "untagged: "+name+":1") || !strings.Contains(out, "Total reclaimed space: ") {
		t.Errorf("prune:\n%s", out)
	}
	c.is(name+"\nNAME", "search", "--format", "{{.Name}}\nNAME", reg.Host+"/pp")
	file := filepath.Join(c.dir, "sbom.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok("artifact", "push", "-q", "--type", "application/spdx+json", "--subject", "1", name, file+":application/json")
	if out := c.ok("artifact", "ls", name+":1"); len(strings.Split(out, "\n")) != 2 {
		t.Errorf("artifact ls:\n%s", out)
	}
	digest := c.ok("artifact", "ls", "--format", "{{.Digest}}", name+":1")
	c.is(filepath.Join(c.dir, "out", "sbom.json"), "artifact", "pull", "-o", filepath.Join(c.dir, "out"), name+"@"+digest)
}

func testPull(t *testing.T, c *cli) {
	reg := testenv.NewRegistry(t, nil)
	reg.Push(t, "library/app", "1", testenv.LayeredImage(t, "app:1"))
	c.args = append(c.args, "-mirror", "docker.io=http://"+reg.Host)
	out := c.ok("pull", "app:1")
	lines := strings.Split(out, "\n")
	if lines[0] != "1: Pulling from library/app" || lines[len(lines)-1] != "docker.io/library/app:1" ||
		!strings.Contains(out, "Status: Downloaded newer image for app:1") || !strings.Contains(out, ": Pull complete") {
		t.Errorf("pull:\n%s", out)
	}
	if out := c.ok("pull", "app:1"); !strings.Contains(out, "Status: Image is up to date for app:1") {
		t.Errorf("second pull:\n%s", out)
	}
	c.is("docker.io/library/app:1", "pull", "-q", "app:1")
	c.ok("rmi", "app:1")
	r := c.run("run", "--rm", "--entrypoint", "", "app:1", "echo", "pulled")
	if r.code != 0 || r.stdout != "pulled\n" || !strings.HasPrefix(r.stderr, "Unable to find image 'app:1' locally\n") {
		t.Errorf("run pulls: %+v", r)
	}
	c.fails(1, "app:9", "pull", reg.Host+"/library/app:9")
}

func testVolumes(t *testing.T, c *cli) {
	c.is("data", "volume", "create", "--label", "a=b", "data")
	c.ok("run", "--rm", "-v", "data:/d", "-v", "/anonymous", "box", "sh", "-c", "echo kept > /d/f")
	c.is("kept", "run", "--rm", "--mount", "type=volume,src=data,dst=/d,readonly", "box", "cat", "/d/f")
	c.is("data", "volume", "ls", "-q") // the anonymous one went with its container
	c.is("b", "volume", "inspect", "-f", "{{.Labels.a}}", "data")
	c.ok("create", "--name", "user", "-v", "data:/d", "-v", "/anonymous", "box", "true")
	c.fails(1, "data", "volume", "rm", "data")
	c.is("user", "rm", "user")
	if out := c.ok("volume", "prune", "-f"); !strings.Contains(out, "Total reclaimed space: ") {
		t.Errorf("prune: %q", out)
	}
	c.is("data", "volume", "ls", "-q")
	c.runInput([]byte("n\n"), "volume", "prune", "-a").want(t, 0, "[y/N]")
	c.is("data", "volume", "rm", "data")
	c.fails(1, "data", "volume", "rm", "data")
}

func testEventsAndCare(t *testing.T, c *cli) {
	c.ok("run", "--name", "ev", "box", "true")
	c.is("create\nstart\ndie", "events", "--since", "1h", "--until", "0s", "-f", "container=ev", "--format", "{{.Action}}")
	follow := c.start("events", "-f", "event=destroy")
	eventually(t, "events are followed", func() bool {
		c.ok("rm", c.ok("create", "box", "true"))
		return strings.Contains(follow.String(), " container destroy ")
	})
	c.ok("rm", "ev")
	follow.await(t, " container destroy ")
	c.is("", "recover")
	c.run("check").want(t, 0, "Containers can run here")
	c.run("version").want(t, 0, "amphora ")
	testSupervise(t, c)
}

// testSupervise: of two supervisors one gives up, the other goes on.
func testSupervise(t *testing.T, c *cli) {
	ended := make(chan *client, 2)
	both := map[*client]bool{c.start("supervise"): true, c.start("supervise"): true}
	for cl := range both {
		go func() { cl.code(); ended <- cl }()
	}
	first := <-ended
	delete(both, first)
	if first.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(first.String(), "one process does") {
		t.Errorf("the first to end: %s: %s", first.cmd.ProcessState, first)
	}
	for second := range both {
		second.cmd.Process.Signal(os.Interrupt)
		if <-ended; second.cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("interrupted: %s: %s", second.cmd.ProcessState, second)
		}
	}
}
