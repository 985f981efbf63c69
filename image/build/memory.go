package build

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// memory is a directory of a few files, by name.
type memory map[string][]byte

func (m memory) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &memoryDir{m: m, names: slices.Sorted(maps.Keys(m))}, nil
	}
	data, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{Reader: bytes.NewReader(data), info: memoryInfo{name, len(data)}}, nil
}

type memoryFile struct {
	*bytes.Reader
	info memoryInfo
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memoryFile) Close() error               { return nil }

type memoryDir struct {
	m     memory
	names []string
}

func (d *memoryDir) Stat() (fs.FileInfo, error) { return memoryInfo{".", -1}, nil }
func (d *memoryDir) Close() error               { return nil }
func (d *memoryDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: fs.ErrInvalid}
}

func (d *memoryDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.names) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.names) {
		n = len(d.names)
	}
	var all []fs.DirEntry
	for _, name := range d.names[:n] {
		all = append(all, fs.FileInfoToDirEntry(memoryInfo{name, len(d.m[name])}))
	}
	d.names = d.names[n:]
	return all, nil
}

// memoryInfo describes a file, or the directory if size is negative.
type memoryInfo struct {
	name string
	size int
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return int64(max(0, i.size)) }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return i.size < 0 }
func (i memoryInfo) Sys() any           { return nil }
func (i memoryInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// copyFS writes a file system below dir, which is empty: directories, files and
// symbolic links, with their permissions and times. Other kinds are left out.
func copyFS(ctx context.Context, dir string, fsys fs.FS) error {
	type stamp struct {
		path string
		info fs.FileInfo
	}
	var dirs []stamp
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		switch d.Type() {
		case fs.ModeDir:
			dirs = append(dirs, stamp{to, info})
			if name == "." {
				return nil
			}
			return os.Mkdir(to, 0o700)
		case fs.ModeSymlink:
			link, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			return os.Symlink(link, to)
		case 0:
			return copyFile(to, fsys, name, info)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Last, and children first: writing into a directory changes its time, and
	// it may not be writable.
	for _, d := range slices.Backward(dirs) {
		if err := dress(d.path, d.info); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to string, fsys fs.FS, name string, info fs.FileInfo) error {
	in, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "copy", Path: path.Clean(name), Err: err}
	}
	return dress(to, info)
}

// dress gives a copy the mode and time of its original. A file system without
// permissions (fstest.MapFS, an archive of Windows) gets usual ones.
func dress(path string, info fs.FileInfo) error {
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	if mode == 0 {
		mode = 0o644
		if info.IsDir() {
			mode = 0o755
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	if t := info.ModTime(); !t.IsZero() {
		return os.Chtimes(path, t, t)
	}
	return nil
}
