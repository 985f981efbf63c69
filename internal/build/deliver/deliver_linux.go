package deliver

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/overlay"
	"github.com/amphora-go/amphora/internal/rootdir"
)

// write writes the files of a tree as an archive, below the name as if there is
// one. The tree is mounted for as long as it takes, where nobody sees it.
func (t *Tree) write(ctx context.Context, w io.Writer, as string) error {
	if len(t.Lowers) == 0 {
		return tar.NewWriter(w).Close()
	}
	f, err := overlay.Open(overlay.Layers{Lower: t.Lowers})
	if err != nil {
		return err
	}
	root := rootdir.New(f)
	defer root.Close()
	return archive.Create(ctx, w, root.Path(), &archive.CreateOptions{As: as, Root: as != "", MaxTime: t.Latest})
}

// Tar writes the files of all trees as one archive: of several, each in a
// directory of its own.
func Tar(ctx context.Context, w io.Writer, trees []Tree) error {
	if len(trees) == 1 {
		return trees[0].write(ctx, w, "")
	}
	out := tar.NewWriter(w)
	for i := range trees {
		t := &trees[i]
		if err := t.piped(ctx, t.Name, func(r io.Reader) error { return appendTo(out, r) }); err != nil {
			return err
		}
	}
	return out.Close()
}

// appendTo copies the entries of an archive.
func appendTo(out *tar.Writer, r io.Reader) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

var errUnread = errors.New("the archive is not read any more")

// piped has f read the files of a tree while they are written.
func (t *Tree) piped(ctx context.Context, as string, f func(io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := t.write(ctx, w, as)
		w.CloseWithError(err)
		done <- err
	}()
	err := f(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	r.CloseWithError(errUnread)
	written := <-done
	if err == nil && !errors.Is(written, errUnread) {
		err = written
	}
	return err // if it is the writer's it came through the pipe
}

// Directory writes the files of all trees into a directory, which it makes: of
// several, each into one of its own. Files belong to the caller, whoever owned
// them in the build: he asked for them to work with them. What is there stays,
// unless it is in the way.
func Directory(ctx context.Context, dir string, trees []Tree) error {
	for i := range trees {
		to := dir
		if len(trees) > 1 {
			to = filepath.Join(dir, trees[i].Name)
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		err := trees[i].piped(ctx, "", func(r io.Reader) error {
			// Names are resolved below the directory by the kernel, and what is
			// in the way is replaced, never followed: neither what the build
			// made nor what an earlier one left can lead elsewhere.
			_, err := archive.Apply(ctx, to, r, &archive.ApplyOptions{Whiteouts: archive.WhiteoutLiteral, MapID: caller})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func caller(int, int) (int, int, error) { return os.Geteuid(), os.Getegid(), nil }
