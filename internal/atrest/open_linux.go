package atrest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/volumes"
	"golang.org/x/sys/unix"
)

// Open opens the tree of a container that is not running.
func Open(ctx context.Context, root *record.Root, rec *record.Container, o *Options) (*Root, error) {
	cfg, err := root.LoadConfig(rec.ID)
	if err != nil {
		return nil, err
	}
	v := &view{root: root, rec: rec, cfg: cfg, opts: *o}
	if err := v.fill(ctx); err != nil {
		return nil, err
	}
	r := new(Root)
	err = inNamespace(func() error {
		if err := v.build(); err != nil {
			return err
		}
		var err error
		if r.ns, err = openPath("/proc/thread-self/ns/mnt", unix.O_RDONLY); err != nil {
			return err
		}
		r.Dir = v.dir
		return nil
	})
	if err != nil {
		if v.dir != nil {
			v.dir.Close()
		}
		return nil, err
	}
	return r, nil
}

// inNamespace runs f in a mount namespace of its own, whose mounts do not
// reach the host's, on a thread that ends with it.
func inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end. While we hold it nobody else gets it.
			done <- inNamespace(f)
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			if errors.Is(err, unix.EPERM) {
				err = fault.Privilege("opening a container's root needs CAP_SYS_ADMIN: run as root")
			}
			done <- err
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			done <- os.NewSyscallError("mount(MS_SLAVE)", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// view is a tree that is being put together.
type view struct {
	root *record.Root
	rec  *record.Container
	cfg  *record.Config
	opts Options
	dir  *os.File
}

// Layers are the directories of a container's layers, its own on top.
func Layers(root *record.Root, rec *record.Container) []string {
	var dirs []string
	if upper := root.Path(rec.ID, "upper"); exists(upper) {
		dirs = append(dirs, upper)
	}
	return append(dirs, root.Layers(rec.Layers)...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// fill does what the first start would do: volumes that the image has content
// for show it, and what is copied there first does not keep it out.
func (v *view) fill(ctx context.Context) error {
	if v.opts.Bare || len(v.cfg.CopyUp) == 0 || v.rec.Rootfs != "" || v.rec.Copy {
		return nil
	}
	f, err := overlay.Open(overlay.Layers{Lower: Layers(v.root, v.rec)})
	if err != nil {
		return err
	}
	defer f.Close()
	for _, up := range v.cfg.CopyUp {
		from := ""
		if !up.Finish {
			src, err := inRoot(f, up.Target, unix.O_DIRECTORY)
			switch {
			case err == nil:
				defer src.Close()
				from = procPath(src)
			case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
				return err
			}
		}
		if err := volumes.CopyUp(ctx, from, up.Source); err != nil {
			return fmt.Errorf("fill the volume at %s from the image: %w", up.Target, err)
		}
	}
	return nil
}

// build mounts everything. It runs in the namespace.
func (v *view) build() error {
	at, err := v.base()
	if err != nil {
		return err
	}
	if v.dir, err = openPath(at, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	if v.opts.Bare {
		return nil
	}
	for _, img := range v.cfg.Images {
		if err := os.Mkdir(img.Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fault.Opaque(err)
		}
		if err := overlay.Mount(img.Dir, overlay.Layers{Lower: v.root.Layers(img.Layers)}); err != nil {
			return err
		}
	}
	for _, m := range v.cfg.OCI.Mounts {
		if m.Type != "bind" {
			continue
		}
		if err := v.bind(&m); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Destination, err)
		}
	}
	if v.opts.Write && (v.cfg.ReadOnly || v.cfg.OCI.Root.Readonly) {
		return mountErr("mount(MS_RDONLY)", at, unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	}
	return nil
}

// base mounts the root file system and returns where.
func (v *view) base() (string, error) {
	at := v.root.Path(v.rec.ID, "rootfs")
	if v.rec.Rootfs != "" {
		at = v.rec.Rootfs
	}
	if v.rec.Rootfs != "" || v.rec.Copy {
		return at, fault.Opaque(mountErr("bind", at, unix.Mount(at, at, "", unix.MS_BIND, "")))
	}
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fault.Opaque(err)
	}
	l := overlay.Layers{Lower: v.root.Layers(v.rec.Layers), Upper: v.root.Path(v.rec.ID, "upper"), Work: v.root.Path(v.rec.ID, "work")}
	if !v.opts.Write {
		// Mount points that are missing are made in a layer that goes again.
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=700"); err != nil {
			return "", mountErr("mount tmpfs", at, err)
		}
		l = overlay.Layers{Lower: Layers(v.root, v.rec), Upper: filepath.Join(at, "upper"), Work: filepath.Join(at, "work")}
	}
	return at, overlay.Mount(at, l)
}

func mountErr(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

func openPath(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// inRoot opens a path of the tree; links stay inside.
func inRoot(root *os.File, path string, flags int) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_PATH | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), path, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
