package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/record"
)

func valid(name string) bool { return record.CheckName(name) == nil }

// Get returns a volume; fs.ErrNotExist if there is none of that name.
func (s *Store) Get(ctx context.Context, name string) (*Volume, error) {
	if !valid(name) {
		return nil, absent()
	}
	v, err := s.read(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	again, mendErr := s.mend(ctx, name)
	if mendErr != nil || !again {
		return nil, errors.Join(err, mendErr)
	}
	return s.read(name)
}

// List returns all volumes, sorted by name. One that cannot be read is listed
// with its Problem. What killed processes left is mended where this process
// may.
func (s *Store) List(ctx context.Context) ([]*Volume, error) {
	entries, err := os.ReadDir(s.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, trouble("read the directory of volumes", err)
	}
	all := make([]*Volume, 0, len(entries))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !valid(e.Name()) || !e.IsDir() {
			continue
		}
		v, err := s.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			// A store that cannot be written is listed all the same.
			if again, _ := s.mend(ctx, e.Name()); !again {
				continue
			}
			v, err = s.read(e.Name())
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			v = s.damaged(e.Name(), err)
		}
		all = append(all, v)
	}
	return all, nil
}

// Size returns the bytes of a volume's files as their lengths add up, a file
// with several links counted once; -1 for a volume whose options bind it to a
// directory that is not its own.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	v, err := s.Get(ctx, name)
	if err != nil {
		return 0, err
	}
	if !v.Fillable() {
		return -1, nil
	}
	return measure(ctx, v.data)
}

// size is for the report of Prune: what cannot be measured counts as 0.
func (s *Store) size(ctx context.Context, v *Volume) int64 {
	n, _ := measure(ctx, v.data)
	return n
}

// measure walks a directory that containers may change meanwhile: through
// os.Root, since a directory replaced by a symbolic link must not lead out.
func measure(ctx context.Context, dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, trouble("measure the volume", err)
	}
	defer root.Close()
	var total int64
	seen := map[inode]bool{}
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return ctxErr
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it was removed since
			}
			return err
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if id, shared := sharedInode(info); shared {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		if info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0 {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, trouble("measure the volume", err)
	}
	return total, nil
}
