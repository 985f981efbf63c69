package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// CopyUp fills an empty volume with the tree at srcDir, a directory of a
// container's root file system that the caller has resolved: content, owners,
// modes, times, extended attributes, symbolic and hard links, devices, and the
// owner, mode and times of the directory itself. A volume that is not empty is
// left alone; so is an empty one if srcDir does not exist. With an empty
// srcDir it only finishes what a killed CopyUp began: call it so for every
// volume that is mounted and not to be filled.
//
// dataDir is what [Store.Path] returns. It may be mounted somewhere already,
// so it cannot be exchanged for a copy; hence, under fill.lock:
//
//	fill-new/   being copied            killed here: it is removed, and copied again
//	fill/       complete and on disk    killed here: the next caller goes on
//	            its entries move to data/ one by one, never over one that is there
//
// So who sees no fill/ sees an empty volume or a whole copy. Callers of all
// processes wait for each other; a container that runs with the empty volume
// meanwhile keeps what it makes.
//
// Errors of the file system, such as a full disk, name the file; nothing
// half-made stays then.
func CopyUp(ctx context.Context, srcDir, dataDir string) error {
	f := filling{vol: filepath.Dir(dataDir), data: dataDir}
	if done, err := f.nothingToDo(srcDir); done || err != nil {
		return err
	}
	l, err := flock.Acquire(ctx, filepath.Join(f.vol, "fill.lock"), flock.Exclusive)
	if err != nil {
		return trouble("lock the volume for filling", err)
	}
	defer l.Release()
	return f.run(ctx, srcDir)
}

type filling struct{ vol, data string }

func (f *filling) ready() string   { return filepath.Join(f.vol, "fill") }
func (f *filling) partial() string { return filepath.Join(f.vol, "fill-new") }

// nothingToDo is the way of every start but the first, without the lock. It
// looks at data before it looks for fill, which goes only after data has all.
func (f *filling) nothingToDo(srcDir string) (bool, error) {
	if srcDir != "" {
		if empty, err := isEmpty(f.data); err != nil || empty {
			return false, err
		}
	}
	_, err := os.Lstat(f.ready())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, trouble("read the volume's directory", err)
}

func (f *filling) run(ctx context.Context, srcDir string) error {
	if _, err := os.Lstat(f.ready()); err == nil {
		return f.publish()
	}
	if err := os.RemoveAll(f.partial()); err != nil {
		return trouble("remove what a killed copy left", err)
	}
	empty, err := isEmpty(f.data)
	if err != nil || !empty || srcDir == "" {
		return err
	}
	src, err := os.OpenFile(srcDir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return fault.Invalid("the image has a file where the volume is to be mounted: mount it on a directory")
	case err != nil:
		return trouble("fill the volume", err)
	}
	defer src.Close()
	if empty, err := isEmpty(srcDir); err == nil && empty {
		return f.attributesOnly(src)
	}
	if err := f.prepare(ctx, src); err != nil {
		return errors.Join(err, trouble("remove the unfinished copy", os.RemoveAll(f.partial())))
	}
	return f.publish()
}

// attributesOnly is the most frequent case: an image that has an empty
// directory with the right owner, such as a database's.
func (f *filling) attributesOnly(src *os.File) error {
	data, err := os.Open(f.data)
	if err != nil {
		return trouble("fill the volume", err)
	}
	defer data.Close()
	if err := copyAttributes(src, data); err != nil {
		return trouble("fill the volume", err)
	}
	return trouble("fill the volume", data.Sync())
}

// prepare copies to fill-new, brings it to disk, and calls it fill.
func (f *filling) prepare(ctx context.Context, src *os.File) error {
	if err := os.Mkdir(f.partial(), 0o700); err != nil {
		return trouble("fill the volume", err)
	}
	dst, err := os.Open(f.partial())
	if err != nil {
		return trouble("fill the volume", err)
	}
	defer dst.Close()
	step.At("volume.fill.begun")
	c := copier{ctx: ctx, root: dst, links: map[inode]string{}}
	if err := c.tree(src, dst, "."); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return trouble("fill the volume", err)
	}
	if err := c.flush(); err != nil {
		return trouble("fill the volume", err)
	}
	step.At("volume.fill.copied")
	if err := os.Rename(f.partial(), f.ready()); err != nil {
		return trouble("fill the volume", err)
	}
	step.At("volume.fill.ready")
	return trouble("fill the volume", atomicfile.SyncDir(f.vol))
}

// publish moves what lies ready to data. It can be repeated from any point.
func (f *filling) publish() error {
	if err := f.move(); err != nil {
		return trouble("fill the volume", err)
	}
	step.At("volume.fill.moved")
	if err := os.RemoveAll(f.ready()); err != nil {
		return trouble("fill the volume", err)
	}
	step.At("volume.fill.done")
	return trouble("fill the volume", atomicfile.SyncDir(f.vol))
}

func (f *filling) move() error {
	from, err := os.Open(f.ready())
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(f.data)
	if err != nil {
		return err
	}
	defer to.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	// The attributes first: the times of fill are those of the source as long
	// as nothing was moved out of it.
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	for _, name := range names {
		if err := moveTo(from, to, name); err != nil {
			return err
		}
		step.At("volume.fill.moving")
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	if err := setTimes(to, &st); err != nil {
		return err
	}
	return to.Sync()
}

// moveTo moves one entry unless the name is taken: a container that has the
// volume already may have made it.
func moveTo(from, to *os.File, name string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without the flag
		var st unix.Stat_t
		err = unix.Fstatat(int(to.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			err = unix.Renameat(int(from.Fd()), name, int(to.Fd()), name)
		}
	}
	if err == nil || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("move %s: %w", name, err)
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, trouble("read the volume", err)
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if err == io.EOF {
		return true, nil
	}
	return false, trouble("read the volume", err)
}
