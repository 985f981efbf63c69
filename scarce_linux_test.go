package amphora_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
	"golang.org/x/sys/unix"
)

// smallStore lies on a file system of its own of that many MiB; containers run
// from a directory outside it.
func smallStore(t *testing.T, size int) (s *store, spec func(name string) *container.Spec) {
	t.Helper()
	testenv.Root(t)
	rootfs := testenv.Rootfs(t)
	s = emptyStore(t)
	mnt := filepath.Join(s.dir, "disk")
	must(t, os.Mkdir(mnt, 0o755))
	must(t, unix.Mount("tmpfs", mnt, "tmpfs", 0, fmt.Sprintf("size=%dm", size)))
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
			unix.Unmount(mnt, unix.MNT_DETACH)
		}
	})
	s.opts.Root = filepath.Join(mnt, "root")
	t.Cleanup(func() { s.clear(t) })
	return s, func(name string) *container.Spec {
		spec := sleeper(name)
		spec.Image, spec.Rootfs = "", rootfs
		return spec
	}
}

// fill writes until nothing more fits. The returned function makes room again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 4 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() { must(t, os.Remove(f.Name())) }
}

func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) && strings.Contains(err.Error(), "no space left")
}

func TestFullDisk(t *testing.T) {
	s, spec := smallStore(t, 8)
	eng := s.open(t)
	rest := create(t, eng, spec("rest"), nil)
	up := started(t, eng, spec("up"))
	ending := started(t, eng, spec("ending"))
	lost := started(t, eng, spec("lost"))
	free := fill(t, filepath.Dir(s.opts.Root))
	defer func() { free() }()

	if _, err := eng.Containers().Create(t.Context(), spec("more"), nil); !full(err) {
		t.Errorf("create: %v", err)
	}
	if err := rest.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("start: %v", err)
	}
	if err := rest.Rename(t.Context(), "other"); !full(err) {
		t.Errorf("rename: %v", err)
	}
	must(t, up.Command(t.Context(), "true").Run())
	must(t, stopBox(ending, t.Context())) // it ends, though nothing can be written
	until(t, "its supervisor is gone", func() bool { i, err := ending.Inspect(t.Context()); return err == nil && i.Status == container.Exited })
	s.killShim(t, lost)
	until(t, "what lost its supervisor is not running", func() bool {
		i, err := lost.Inspect(t.Context())
		return err == nil && i.Status == container.Exited && i.Exit != nil && i.Exit.Unknown
	})
	if err := lost.Start(t.Context()); !full(err) {
		t.Errorf("start of what is lost: %v", err)
	}
	infos, err := eng.Containers().List(t.Context(), nil)
	must(t, err)
	want := map[string]container.Status{"rest": container.Created, "up": container.Running, "ending": container.Exited, "lost": container.Exited}
	for _, i := range infos {
		if i.Status != want[i.Name] {
			t.Errorf("%s is %s", i.Name, i.Status)
		}
	}
	if len(infos) != len(want) {
		t.Errorf("%d containers", len(infos))
	}

	free()
	free = func() {}
	s.truth(t, "space returned")
	must(t, rest.Start(t.Context()))
	create(t, eng, spec("more"), nil)
	must(t, ending.Start(t.Context()))
	s.truth(t, "done again")
}

func TestReadOnlyRoot(t *testing.T) {
	s, spec := smallStore(t, 8)
	eng := s.open(t)
	c := create(t, eng, spec("here"), nil)
	mnt := filepath.Dir(s.opts.Root)
	must(t, unix.Mount("", mnt, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	writable := func() error { return unix.Mount("", mnt, "", unix.MS_REMOUNT, "") }
	defer writable()

	eng = s.open(t)
	infos, err := eng.Containers().List(t.Context(), nil)
	if err != nil || len(infos) != 1 || infos[0].Status != container.Created {
		t.Errorf("list: %+v, %v", infos, err)
	}
	if _, err := eng.Containers().Create(t.Context(), spec("more"), nil); !errors.Is(err, unix.EROFS) {
		t.Errorf("create: %v", err)
	}
	if err := c.Start(t.Context()); !errors.Is(err, unix.EROFS) {
		t.Errorf("start: %v", err)
	}
	if err := c.Remove(t.Context(), nil); !errors.Is(err, unix.EROFS) {
		t.Errorf("remove: %v", err)
	}
	must(t, writable())
	s.truth(t, "writable again")
	must(t, c.Start(t.Context()))
}

func init() { testenv.Child("nobody", nobodyChild) }

// nobodyChild does what somebody without root may and may not do.
func nobodyChild(args []string) int {
	ctx := context.Background()
	if _, err := amphora.Open(ctx, &amphora.Options{Root: args[1], State: args[2]}); !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("open of root's store:", err)
		return 1
	}
	dir := args[3]
	eng, err := amphora.Open(ctx, &amphora.Options{Root: dir + "/root", State: dir + "/state"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	spec := sleeper("mine")
	spec.Image, spec.Rootfs = "", args[0]
	c, err := eng.Containers().Create(ctx, spec, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	err = c.Start(ctx)
	if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "root") {
		fmt.Println("start:", err)
		return 1
	}
	i, err := c.Inspect(ctx)
	if err != nil || i.Status != container.Created {
		fmt.Println("inspect:", i, err)
		return 1
	}
	if err := c.Remove(ctx, nil); err != nil {
		fmt.Println("remove:", err)
		return 1
	}
	return 0
}

func TestWithoutRoot(t *testing.T) {
	testenv.Root(t)
	rootfs := testenv.Rootfs(t)
	s := emptyStore(t)
	s.open(t)
	own := filepath.Join(s.dir, "own")
	must(t, os.Mkdir(own, 0o755))
	must(t, os.Chown(own, 65534, 65534))
	exe := filepath.Join(s.dir, "program")
	copyExecutable(t, exe)
	cmd := testenv.ChildCommand(t, "nobody", step.Plan{}, rootfs, s.opts.Root, s.opts.State, own)
	cmd.Path, cmd.Dir = exe, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
