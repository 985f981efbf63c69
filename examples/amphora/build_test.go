package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image/build"
)

// parseBuild reads flags as the command does.
func parseBuild(t *testing.T, args ...string) (*buildFlags, error) {
	t.Helper()
	b, f := &buildFlags{}, newFlags()
	b.define(f)
	_, err := f.parse(args, false)
	return b, err
}

func TestBuildFlags(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FROM_ENV", "v")
	b, err := parseBuild(t, "-t", "a", "--tag=b:1", "--build-arg", "X=1", "--build-arg", "FROM_ENV", "--build-arg", "NOT_SET_ANYWHERE", "--platform", "linux/amd64,linux/arm64",
		"--no-cache-filter", "x,y", "--pull", "--network=default", "--add-host", "h:1.2.3.4", "--add-host", "i=::1", "--shm-size", "1m", "--ulimit", "nofile=1:2",
		"--label", "k=v", "--allow", "network.host", "--cgroup-parent", "/x", "-m", "64m", "--target", "t", "-f", filepath.Join(dir, "sub", "D"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.request(&app{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := &build.Request{
		Context: build.Context{Dir: dir}, Dockerfile: "sub/D", Target: "t", Tags: []string{"a", "b:1"},
		Args: map[string]string{"X": "1", "FROM_ENV": "v"}, Labels: map[string]string{"k": "v"}, Platforms: []string{"linux/amd64", "linux/arm64"},
		NoCacheFilter: []string{"x", "y"}, Pull: build.PullAlways, ExtraHosts: []string{"h:1.2.3.4", "i:::1"}, ShmSize: 1 << 20,
		Ulimits: []build.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, CgroupParent: "/x", Allow: []string{"network.host"}, Resources: build.Resources{Memory: 64 << 20},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
}

func TestBuildValues(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("A_SECRET", "x")
	socket := filepath.Join(dir, "key")
	os.WriteFile(socket, nil, 0o600)
	for _, c := range []struct {
		flag, value string
		want        build.Request
	}{
		{"secret", "id=a,src=f", build.Request{Secrets: map[string]build.Secret{"a": {File: "f"}}}},
		{"secret", "type=env,id=a,src=V", build.Request{Secrets: map[string]build.Secret{"a": {Env: "V"}}}},
		{"secret", "id=A_SECRET", build.Request{Secrets: map[string]build.Secret{"A_SECRET": {Env: "A_SECRET"}}}},
		{"secret", "id=plainfile", build.Request{Secrets: map[string]build.Secret{"plainfile": {File: "plainfile"}}}},
		{"ssh", "default", build.Request{SSH: map[string]build.SSH{"default": {}}}},
		{"ssh", "k=" + socket, build.Request{SSH: map[string]build.SSH{"k": {Keys: []string{socket}}}}},
		{"output", "out", build.Request{Outputs: []build.Output{{Type: build.OutputDir, Path: "out"}}}},
		{"output", "type=local,dest=out", build.Request{Outputs: []build.Output{{Type: build.OutputDir, Path: "out"}}}},
		{"output", "type=oci,dest=x.tar", build.Request{Outputs: []build.Output{{Type: build.OutputOCI, Path: "x.tar"}}}},
		{"output", "type=docker,dest=x.tar", build.Request{Outputs: []build.Output{{Type: build.OutputDocker, Path: "x.tar"}}}},
		{"output", "type=docker", build.Request{Outputs: []build.Output{{}}}},
		{"output", `type=image,"name=a,b:2"`, build.Request{Outputs: []build.Output{{}}, Tags: []string{"a", "b:2"}}},
		{"build-context", "n=docker-image://alpine", build.Request{Contexts: map[string]build.Context{"n": {Image: "alpine"}}}},
		{"build-context", "n=oci-layout:///l:tag", build.Request{Contexts: map[string]build.Context{"n": {Layout: "/l", Ref: "tag"}}}},
		{"build-context", "n=oci-layout:///l@sha256:1", build.Request{Contexts: map[string]build.Context{"n": {Layout: "/l", Ref: "sha256:1"}}}},
		{"build-context", "n=https://x/y.git", build.Request{Contexts: map[string]build.Context{"n": {URL: "https://x/y.git"}}}},
		{"build-context", "n=" + dir, build.Request{Contexts: map[string]build.Context{"n": {Dir: dir}}}},
		{"cache-from", "ref:1", build.Request{CacheFrom: []build.Cache{{Ref: "ref:1"}}}},
		{"cache-from", "type=local,src=d", build.Request{CacheFrom: []build.Cache{{Dir: "d"}}}},
		{"cache-to", "type=registry,ref=r,mode=max", build.Request{CacheTo: []build.Cache{{Ref: "r", Max: true}}}},
		{"cache-to", "type=inline", build.Request{CacheTo: []build.Cache{{Inline: true}}}},
	} {
		b, err := parseBuild(t, "--"+c.flag, c.value)
		if err != nil || !reflect.DeepEqual(b.Request, c.want) {
			t.Errorf("--%s %s: %+v, %v", c.flag, c.value, b.Request, err)
		}
	}
	for _, bad := range []string{"secret src=x", "secret id=a,what=x", "output type=what", "output type=local", "output type=tar,x=y", "build-context nothing", "build-context =x",
		"cache-from type=inline", "cache-from type=local", "cache-to type=gha", "cache-to type=registry,ref=x,mode=some", "add-host x", "network bridge0", "ulimit x", `secret "id=`} {
		flag, v, _ := strings.Cut(bad, " ")
		if _, err := parseBuild(t, "--"+flag, v); err == nil {
			t.Errorf("--%s %s was accepted", flag, v)
		}
	}
}

func TestBuildSources(t *testing.T) {
	for where, url := range map[string]bool{"https://x/y": true, "git@github.com:a/b.git": true, "git://x": true, "github.com/a/b": true, "./x": false, "httpd": false} {
		if isURL(where) != url {
			t.Errorf("isURL(%q) = %v", where, !url)
		}
	}
	for file, want := range map[string]string{"/c/D": "D", "/c/a/D": "a/D", "/other/D": "/other/D", "/c2/D": "/c2/D"} {
		if got, err := dockerfile("/c", file); err != nil || got != want {
			t.Errorf("dockerfile(%q) = %q, %v", file, got, err)
		}
	}
	for _, head := range []string{"\x1f\x8b\x08...", "BZh9", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", strings.Repeat("\x00", 257) + "ustar\x00"} {
		if !isArchive([]byte(head)) {
			t.Errorf("%q is an archive", head[:4])
		}
	}
	if isArchive([]byte("FROM x")) {
		t.Error("a Dockerfile is no archive")
	}
}
