package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/overlay"
)

// Do makes the layer o.Upper: what the actions of f change in their base. The
// inputs stay as they are. Errors name paths as the action has them. When the
// source of a copy, or what a remove names, does not exist, the error Is
// fs.ErrNotExist and reads `"/foo": not found`; no other one is of that kind.
// After an error Upper is of no use.
func Do(ctx context.Context, f *op.File, o *Options) (err error) {
	w := &work{ctx: ctx, opts: o, inputs: map[int]*os.File{}}
	defer func() {
		if cerr := w.close(); err == nil && cerr != nil {
			err = fault.Opaque(cerr)
		}
	}()
	if err := w.open(f.Base); err != nil {
		return err
	}
	for i := range f.Actions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.action(&f.Actions[i]); err != nil {
			return err
		}
	}
	return nil
}

// work is one Do.
type work struct {
	ctx  context.Context
	opts *Options
	base []string // lower directories of the tree that is changed; none: scratch
	tree *os.File // it
	jail *jail

	inputs map[int]*os.File // opened; see input
	none   string           // an empty directory beside Upper
}

func (w *work) open(base int) error {
	lowers, err := w.lowers(base)
	if err != nil {
		return err
	}
	w.base = lowers
	if len(lowers) == 0 {
		w.tree, err = openScratch(w.opts.Upper)
	} else {
		w.tree, err = w.openOver(lowers)
	}
	if err != nil {
		return err
	}
	w.jail, err = newJail(w.tree)
	return err
}

// openScratch opens a layer that has none below it: no overlay, which would
// mark its directories as opaque.
func openScratch(upper string) (*os.File, error) {
	err := os.Mkdir(upper, 0o755)
	if err == nil {
		err = os.Chmod(upper, 0o755)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fault.Opaque(err)
	}
	f, err := os.Open(upper)
	return f, fault.Opaque(err)
}

// openOver opens the overlay that is written to. Its root is Upper's, so Upper
// gets what the root below it has.
func (w *work) openOver(lowers []string) (*os.File, error) {
	upper := w.opts.Upper
	if err := os.Mkdir(upper, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fault.Opaque(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(lowers[0], &st); err != nil {
		return nil, fault.Opaque(&os.PathError{Op: "stat", Path: lowers[0], Err: err})
	}
	err := errors.Join(
		unix.Chown(upper, int(st.Uid), int(st.Gid)),
		unix.Chmod(upper, st.Mode&0o7777),
		unix.UtimesNanoAt(unix.AT_FDCWD, upper, []unix.Timespec{st.Atim, st.Mtim}, 0),
	)
	if err != nil {
		return nil, fault.Opaque(fmt.Errorf("root of the layer %s: %w", upper, err))
	}
	f, err := overlay.Open(overlay.Layers{Lower: lowers, Upper: upper, Work: w.opts.Work, Volatile: true})
	return f, fault.Opaque(err)
}

func (w *work) lowers(input int) ([]string, error) {
	if input == op.Scratch {
		return nil, nil
	}
	if input < 0 || input >= len(w.opts.Inputs) {
		return nil, fault.Invalid("a file operation names input %d of %d", input, len(w.opts.Inputs))
	}
	return w.opts.Inputs[input], nil
}

// input opens a tree for reading. What is below its directories cannot be left
// by "..": it is a mount of its own.
func (w *work) input(i int) (*os.File, error) {
	if f := w.inputs[i]; f != nil {
		return f, nil
	}
	lowers, err := w.lowers(i)
	if err != nil {
		return nil, err
	}
	f, err := w.openInput(lowers)
	if err != nil {
		return nil, err
	}
	w.inputs[i] = f
	return f, nil
}

func (w *work) openInput(lowers []string) (*os.File, error) {
	if len(lowers) == 0 {
		none, err := w.empty()
		if err != nil {
			return nil, err
		}
		return clone(none)
	}
	if len(lowers) > 1 {
		f, err := overlay.Open(overlay.Layers{Lower: lowers})
		return f, fault.Opaque(err)
	}
	// A single directory may be a layer, in which an overlay left notes: another
	// overlay shows it without. It may be a build context, too, with mounts in
	// it, which an overlay does not show.
	mounts, err := mountsBelow(lowers[0])
	if err != nil {
		return nil, err
	}
	if !mounts {
		none, err := w.empty()
		if err != nil {
			return nil, err
		}
		if f, err := overlay.Open(overlay.Layers{Lower: []string{none, lowers[0]}}); err == nil {
			return f, nil
		} // not every file system can be below an overlay
	}
	return clone(lowers[0])
}

// empty is an empty directory.
func (w *work) empty() (string, error) {
	if w.none == "" {
		dir, err := os.MkdirTemp(filepath.Dir(w.opts.Upper), "none.")
		if err != nil {
			return "", fault.Opaque(err)
		}
		w.none = dir
	}
	return w.none, nil
}

func (w *work) close() error {
	var errs []error
	if w.jail != nil {
		errs = append(errs, w.jail.close())
	}
	for _, f := range w.inputs {
		errs = append(errs, f.Close())
	}
	if w.tree != nil {
		errs = append(errs, w.tree.Close())
	}
	if w.none != "" {
		errs = append(errs, os.Remove(w.none))
	}
	return errors.Join(errs...)
}

func (w *work) action(a *op.Action) error {
	switch {
	case a.Copy != nil:
		return w.copy(a.Copy)
	case a.Mkdir != nil:
		return w.mkdir(a.Mkdir)
	case a.Mkfile != nil:
		return w.mkfile(a.Mkfile)
	case a.Remove != nil:
		return w.remove(a.Remove)
	case a.Symlink != nil:
		return w.symlink(a.Symlink)
	}
	return fault.Invalid("a file operation has an action that says nothing")
}

// when is the time for what an action makes; nil: now.
func (w *work) when(ns *int64) *time.Time {
	if t := w.stamp(ns); t != nil {
		return t
	}
	return w.opts.Epoch
}

// stamp is the time that an action gives to all that it writes; nil: none.
func (w *work) stamp(ns *int64) *time.Time {
	if ns == nil {
		return nil
	}
	t := time.Unix(0, *ns)
	return &t
}
