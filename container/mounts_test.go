//go:build linux

package container

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/volume"
	"golang.org/x/sys/unix"
)

func mounted(m ...volume.Mount) Spec { return Spec{Mounts: m} }

func TestBinds(t *testing.T) {
	b := newBench(t)
	dir := testenv.Dir(t)
	if err := os.WriteFile(dir+"/f", []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := b.output(t, mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m"}), "sh", "-c", "cat /m/f; echo inside > /m/g")
	if got != "host" || hostFile(t, dir+"/g") != "inside" {
		t.Errorf("read %q, wrote %q", got, hostFile(t, dir+"/g"))
	}
	ro := mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m", ReadOnly: true})
	if out, err := b.command(t, ro, "touch", "/m/h").CombinedOutput(); err == nil || !strings.Contains(string(out), "read-only") {
		t.Errorf("write to a read-only bind: %q, %v", out, err)
	}
	file := mounted(volume.Mount{Type: volume.Bind, Source: dir + "/f", Target: "/etc/made/here"})
	if got := b.output(t, file, "cat", "/etc/made/here"); got != "host" {
		t.Errorf("file bind: %q", got)
	}
	_, err := b.try(t, mounted(volume.Mount{Type: volume.Bind, Source: dir + "/nosuch", Target: "/m"}), "true")
	is(t, err, fs.ErrInvalid)
	says(t, err, dir+"/nosuch", "/m")
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing source looks like a missing container")
	}
	if b.output(t, mounted(volume.Mount{Type: volume.Bind, Source: dir + "/made", Target: "/m", CreateSource: true}), "echo", "ok") != "ok" {
		t.Error("source to be made")
	}
	_, err = b.try(t, mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m"}, volume.Mount{Type: volume.Tmpfs, Target: "/m/"}), "true")
	is(t, err, fs.ErrInvalid)
	says(t, err, "/m")
	// Parents are mounted before what lies below them, whatever the order.
	nested := mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m/a/b"}, volume.Mount{Type: volume.Tmpfs, Target: "/m"})
	if got := b.output(t, nested, "cat", "/m/a/b/f"); got != "host" {
		t.Errorf("nested: %q", got)
	}
	// A mount in place of a base one.
	if got := b.output(t, mounted(volume.Mount{Type: volume.Bind, Source: dir + "/f", Target: "/etc/hosts"}), "cat", "/etc/hosts"); got != "host" {
		t.Errorf("own /etc/hosts: %q", got)
	}
}

// What is mounted below a source is read-only as well.
func TestReadOnlyBindIsRecursive(t *testing.T) {
	b := newBench(t)
	dir := testenv.Dir(t)
	if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir+"/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/sub", unix.MNT_DETACH)
	m := volume.Mount{Type: volume.Bind, Source: dir, Target: "/m", ReadOnly: true}
	if err := b.command(t, mounted(m), "touch", "/m/sub/x").Run(); err == nil {
		t.Error("a mount below a read-only bind can be written")
	}
	m.ReadOnlyNonRecursive = true
	if err := b.command(t, mounted(m), "touch", "/m/sub/x").Run(); err != nil {
		t.Error(err)
	}
	m.NonRecursive = true
	if err := b.command(t, mounted(m), "test", "-e", "/m/sub/x").Run(); err == nil {
		t.Error("a bind that is not recursive shows mounts below")
	}
}

func TestPropagation(t *testing.T) {
	b := newBench(t)
	dir := testenv.Dir(t)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	slave := b.start(t, mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m", Propagation: "rslave"}), "pause")
	private := b.start(t, mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m"}), "pause")
	if err := unix.Mount("tmpfs", dir+"/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/sub", unix.MNT_DETACH)
	if err := os.WriteFile(dir+"/sub/new", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	execOutput(t, slave, "test", "-e", "/m/sub/new")
	if err := private.Command(t.Context(), "test", "-e", "/m/sub/new").Run(); err == nil {
		t.Error("a mount of the host reached a private bind")
	}
	shared := b.start(t, Spec{Security: Security{Privileged: true}, Mounts: []volume.Mount{{Type: volume.Bind, Source: dir, Target: "/m", Propagation: "rshared"}}}, "pause")
	x := shared.Command(t.Context(), "sh", "-c", "mkdir /m/up && mount tmpfs none /m/up && touch /m/up/f")
	if out, err := x.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer unix.Unmount(dir+"/up", unix.MNT_DETACH)
	if _, err := os.Stat(dir + "/up/f"); err != nil {
		t.Errorf("a mount of a shared bind did not reach the host: %v", err)
	}
}

func TestTmpfs(t *testing.T) {
	b := newBench(t)
	got := b.output(t, mounted(volume.Mount{Type: volume.Tmpfs, Target: "/t", TmpfsSize: 1 << 20, TmpfsMode: 0o750}), "sh", "-c", "stat /t; mount; fill /t/x 2m || echo full")
	if !strings.Contains(got, "dir 0750") || !strings.Contains(got, "/t rw,nosuid,nodev,noexec") || !strings.Contains(got, "size=1024k") || !strings.HasSuffix(got, "full") {
		t.Errorf("%s", got)
	}
}

func TestVolumes(t *testing.T) {
	b := newBench(t, "VOLUME /home", "VOLUME /var/fresh")
	ctx := t.Context()
	names := func(c *Container) map[string]string {
		m := map[string]string{}
		for _, v := range inspect(t, c).Volumes {
			m[v.Target] = v.Name
		}
		return m
	}
	c := b.start(t, mounted(volume.Mount{Type: volume.Named, Source: "vol", Target: "/etc"}), "sh", "-c", "cat /etc/group; stat /home/alice; echo x > /home/new; echo y > /etc/new")
	if exit := wait(t, c); exit.Code != 0 {
		t.Fatalf("exit %+v: %s", exit, logText(t, c))
	}
	log := logText(t, c)
	if !strings.Contains(log, "wheel:x:10") || !strings.Contains(log, "dir 0700 1000:1000") {
		t.Errorf("volumes were not filled from the image: %q", log)
	}
	got := names(c)
	if len(got) != 3 || got["/etc"] != "vol" || len(got["/home"]) != 64 {
		t.Errorf("volumes %v", got)
	}
	source := func(name string) string { return filepath.Join(b.root.Dir, "volumes", name) }
	if _, err := os.Stat(source(got["/home"])); err != nil {
		t.Fatal(err)
	}
	// Another container sees the named one's content, and an own anonymous one.
	other := b.start(t, mounted(volume.Mount{Type: volume.Named, Source: "vol", Target: "/etc"}), "sh", "-c", "cat /etc/new; test -e /home/new || echo none")
	wait(t, other)
	if got := strings.TrimSpace(logText(t, other)); got != "y\nnone" {
		t.Errorf("the other container: %q", got)
	}
	if err := other.Remove(ctx, nil); err != nil { // without its volumes
		t.Fatal(err)
	}
	if err := c.Remove(ctx, &RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(source(got["/home"])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the anonymous volume stayed: %v", err)
	}
	if _, err := os.Stat(source("vol")); err != nil {
		t.Errorf("the named volume: %v", err)
	}
	// One that is removed at its end takes its anonymous volumes along.
	before, _ := os.ReadDir(filepath.Join(b.root.Dir, "volumes"))
	b.output(t, Spec{}, "true")
	after, _ := os.ReadDir(filepath.Join(b.root.Dir, "volumes"))
	if len(after) != len(before) {
		t.Errorf("%d volumes before, %d after", len(before), len(after))
	}
	// A failed Create leaves none.
	if _, err := b.try(t, Spec{Stop: Stop{Signal: "TERM"}, Security: Security{CapAdd: []string{"NOSUCH"}}}, "true"); err == nil {
		t.Error("no error")
	}
	last, _ := os.ReadDir(filepath.Join(b.root.Dir, "volumes"))
	if len(last) != len(before) {
		t.Errorf("a failed Create left a volume: %d, %d", len(before), len(last))
	}
}

func TestReadOnlyVolumeAndNoCopy(t *testing.T) {
	b := newBench(t)
	m := volume.Mount{Type: volume.Named, Source: "empty", Target: "/etc", NoCopy: true}
	if got := b.output(t, mounted(m), "sh", "-c", "test -e /etc/passwd || echo none"); got != "none" {
		t.Errorf("NoCopy: %q", got)
	}
	m = volume.Mount{Type: volume.Named, Source: "ro", Target: "/data", ReadOnly: true}
	if err := b.command(t, mounted(m), "touch", "/data/x").Run(); err == nil {
		t.Error("a read-only volume was written")
	}
}

func TestFS(t *testing.T) {
	b := newBench(t)
	dir := testenv.Dir(t)
	if err := os.WriteFile(dir+"/f", []byte("bound"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, rootfs := range []bool{false, true} {
		spec := mounted(volume.Mount{Type: volume.Bind, Source: dir, Target: "/m"})
		if rootfs {
			spec.Rootfs = testenv.Rootfs(t)
		}
		c := b.create(t, spec, "sh", "-c", "echo new > /written; ln -s /etc/passwd /abs; ln -s ../../../../../etc/passwd /up; ln -s /proc/1/root/etc/shadow /magic; pause")
		read := func(name string) (string, error) {
			f, err := c.FS(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			data, err := fs.ReadFile(f, name)
			return string(data), err
		}
		if _, err := read("written"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before the start: %v", err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "files are there", func() bool { return c.Command(t.Context(), "test", "-L", "/magic").Run() == nil })
		for _, running := range []bool{true, false} {
			if got, err := read("written"); got != "new\n" {
				t.Errorf("written: %q, %v", got, err)
			}
			for _, link := range []string{"abs", "up"} {
				if got, err := read(link); !strings.Contains(got, "alice") {
					t.Errorf("%s: %q, %v", link, got, err)
				}
			}
			if _, err := read("magic"); err == nil {
				t.Error("a magic link was followed")
			}
			if got, err := read("m/f"); running && got != "bound" || !running && err == nil {
				t.Errorf("bind, running %v: %q, %v", running, got, err)
			}
			if running {
				if err := c.Stop(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
