package recovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/volumes"
	"github.com/hashicorp/go-multierror"
)

// Report is what All found and did.
type Report struct {
	Mended, Removed, Dropped []string // container ids
}

// All judges every record, mends it, and sweeps away what belongs to no
// container. It goes on after a failure.
func All(ctx context.Context, root *record.Root) (*Report, error) {
	ids, err := root.IDs()
	if err != nil {
		return nil, err
	}
	r := new(Report)
	var errs *multierror.Error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		done, err := one(ctx, root, id)
		switch {
		case errors.Is(err, flock.ErrHeld), errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = multierror.Append(errs, fault.New("recover container", record.Short(id), err))
		case done == Mended:
			r.Mended = append(r.Mended, id)
		case done == Removed:
			r.Removed = append(r.Removed, id)
		case done == Dropped:
			r.Dropped = append(r.Dropped, id)
		}
	}
	errs = multierror.Append(errs, root.SweepNames(ctx), sweepSockets(root), volumes.Open(root).Sweep(ctx), networks.Open(root).GC(ctx), root.EmptyTrash())
	return r, errs.ErrorOrNil()
}

func one(ctx context.Context, root *record.Root, id string) (Outcome, error) {
	if err := root.Settle(ctx, id); err != nil {
		return Sound, err
	}
	if _, err := os.Stat(root.Path(id, "record.json")); errors.Is(err, os.ErrNotExist) {
		dropped, err := root.DropHalfMade(ctx, id)
		if dropped {
			return Dropped, err
		}
		return Sound, err
	}
	s, err := root.Judge(id)
	if err == nil && s.Lost {
		return Container(ctx, root, id)
	}
	return Sound, errors.Join(err, tidy(ctx, root, id))
}

// sweepSockets removes the sockets that no supervisor listens on.
func sweepSockets(root *record.Root) error {
	entries, err := os.ReadDir(filepath.Join(root.State, "s"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	ids, err := root.IDs()
	if err != nil {
		return err
	}
	known := make(map[string]string, len(ids))
	for _, id := range ids {
		known[record.Short(id)] = id
	}
	var errs *multierror.Error
	for _, e := range entries {
		errs = multierror.Append(errs, sweepSocket(root, e.Name(), known[e.Name()]))
	}
	return errs.ErrorOrNil()
}

// sweepSocket removes one, unless its container, if there is one, is alive.
func sweepSocket(root *record.Root, name, id string) error {
	if id != "" {
		alive, err := root.TryAlive(id)
		if err != nil {
			return nil // supervised, or gone since
		}
		defer alive.Release()
	}
	if err := os.Remove(filepath.Join(root.State, "s", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
}

// sweepFiles removes what killed writers left in the container's directory.
// Nobody else writes there: its lock and alive are held.
func sweepFiles(root *record.Root, id string) error {
	for _, f := range torn(root, id) {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.Opaque(err)
		}
	}
	return nil
}

// torn are the files of atomicfile that were not renamed, or not yet.
func torn(root *record.Root, id string) []string {
	files, _ := filepath.Glob(root.Path(id, ".tmp-*")) // fails for bad patterns only
	return files
}

// tidy is sweepFiles for a container at rest.
func tidy(ctx context.Context, root *record.Root, id string) error {
	if len(torn(root, id)) == 0 {
		return nil
	}
	alive, err := root.TryAlive(id)
	if err != nil {
		return err
	}
	defer alive.Release()
	l, err := root.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer l.Release()
	return sweepFiles(root, id)
}
