package solve

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/overlay"
)

// difference writes into upper what turns one tree into the other. Both are
// directories of layers, topmost first. Files count as equal, as in a
// container's changes, if kind, mode, owner, size and time are.
func difference(ctx context.Context, from, to []string, upper string) error {
	f, err := overlay.Open(overlay.Layers{Lower: to})
	if err != nil {
		return err
	}
	defer f.Close()
	dir := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	changes, err := archive.Changes(ctx, dir, from, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(upper, 0o755); err != nil {
		return err
	}
	o := &archive.CreateOptions{Root: true}
	o.Skip, o.Deleted = archive.Only(changes)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := archive.Create(ctx, w, dir, o)
		done <- err
		w.CloseWithError(err)
	}()
	_, err = archive.Apply(ctx, upper, r, &archive.ApplyOptions{})
	r.CloseWithError(err)
	return errors.Join(err, <-done)
}
