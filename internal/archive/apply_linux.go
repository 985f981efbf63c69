package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// copySize is large enough to make the number of writes irrelevant and small
// enough to stay in a second-level cache.
const copySize = 1 << 20

// applier unpacks one archive.
type applier struct {
	*tree
	ctx   context.Context
	opts  ApplyOptions
	tr    *tar.Reader
	buf   *[copySize]byte
	count Applied
	last  string // previous entry, for errors of the stream
	again bool   // isolated: lower layers must be in sight
}

// Apply unpacks the tar stream r into dir, which exists and, with Isolated or
// Lowers, is empty. It reads r to its end. Nothing outside dir is touched and
// no symbolic link is followed out of it; names that are absolute or climb
// with ".." are clamped into dir, as Docker does. A later entry replaces an
// earlier one, also a directory by a file and the other way round.
//
// What an archive may not contain gives an error that names the entry and Is
// fs.ErrInvalid; a missing privilege Is errors.ErrUnsupported and
// fs.ErrPermission. Errors of r keep their kind. After an error dir holds a
// part of the archive.
func Apply(ctx context.Context, dir string, r io.Reader, opts *ApplyOptions) (*Applied, error) {
	a, err := newApplier(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if _, ok := r.(*pipe); !ok {
		r = bufio.NewReaderSize(r, chunkSize)
	}
	a.tr = tar.NewReader(r)
	a.buf = new([copySize]byte)

	err = a.entries()
	if err == nil && a.lowers != nil {
		err = a.complete(a.opaque["."])
	}
	// Also after a failure where the tree lives on: directories must not stay
	// closed to their owner. Half a layer is thrown away.
	if err == nil || !a.style.overlay() {
		if ferr := a.finish(); err == nil {
			err = ferr
		}
	}
	if err != nil {
		return nil, storeErr(err)
	}
	// What follows the end of the archive may hold the check sum of the
	// compressed stream.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("reading behind the end of the archive: %w", err)
	}
	return a.applied(), nil
}

func newApplier(ctx context.Context, dir string, opts *ApplyOptions) (*applier, error) {
	a := &applier{ctx: ctx}
	if opts != nil {
		a.opts = *opts
	}
	o := &a.opts
	if (o.Isolated || o.Lowers != nil) && !o.Whiteouts.overlay() || o.Isolated && o.Lowers != nil {
		return nil, fault.Invalid("a layer is applied isolated, or over lower layers, or in place: these options exclude each other")
	}
	if o.Below != "" && o.Whiteouts != WhiteoutLiteral {
		return nil, fault.Invalid("a layer is applied to a whole tree: Below needs WhiteoutLiteral")
	}
	var err error
	if a.tree, err = openTree(dir, o.Whiteouts); err != nil {
		return nil, err
	}
	a.keepKinds = o.KeepKinds
	if err := a.prepare(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *applier) prepare() error {
	a.isolated = a.opts.Isolated
	if a.opts.MapID != nil && !a.opts.RootImplied {
		var err error
		if a.zeroUID, a.zeroGID, err = a.opts.MapID(0, 0); err != nil {
			return err
		}
	}
	if !a.style.overlay() {
		return nil
	}
	if a.isolated || a.opts.Lowers != nil {
		list, err := names(a.root.fd)
		if err != nil {
			return pathErr("list", "root of the layer", err)
		}
		if len(list) > 0 {
			return fault.Invalid("the directory for a layer is not empty: it holds %q", list[0])
		}
	}
	// A setgid bit of the root would be inherited by all directories.
	if err := unix.Chmod(procPath(a.root.fd), 0o755); err != nil {
		return pathErr("chmod", "root of the layer", err)
	}
	var lower *dirMeta
	if a.opts.Lowers != nil {
		var err error
		if a.lowers, err = openView(a.opts.Lowers); err != nil {
			return err
		}
		if n := a.lowers.nodes["."]; n.kind == kindDir {
			if lower, err = a.lowers.meta(".", n); err != nil {
				return err
			}
		}
	}
	a.imply(".", lower)
	if a.isolated {
		a.implicit["."] = true
	}
	return nil
}

// entries applies all of them.
func (a *applier) entries() error {
	for {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		h, err := a.tr.Next()
		if err == io.EOF {
			return nil
		}
		// Insecure names are clamped here, whatever GODEBUG says.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return a.streamErr(err)
		}
		a.count.Entries++
		a.last = h.Name
		a.reap()
		err = a.entry(h)
		if err != nil && a.assumes() && errors.As(err, new(unsure)) {
			a.again = true // nothing that follows matters
			continue
		}
		if err != nil {
			return entryErr(h.Name, err)
		}
	}
}

// sourceErr is an error of the stream, not of the tree.
type sourceErr struct{ error }

func (e sourceErr) Unwrap() error { return e.error }

func (a *applier) streamErr(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
		err = fault.Invalid("damaged archive: %w", err)
	}
	if a.last != "" {
		err = fmt.Errorf("after entry %.256q: %w", a.last, err)
	}
	return sourceErr{fmt.Errorf("reading the archive: %w", err)}
}

func entryErr(name string, err error) error {
	var src sourceErr
	if errors.As(err, &src) {
		return err
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
		err = fault.Invalid("%w", err)
	}
	return fmt.Errorf("archive entry %.256q: %w", name, err)
}

// storeErr hides the kinds of plain system errors: ENOENT inside the store is
// not an absent image. What this package says itself keeps its kind.
func storeErr(err error) error {
	var src sourceErr
	if errors.As(err, &src) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, ErrReapply) ||
		errors.Is(err, errors.ErrUnsupported) && errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fault.Opaque(err)
}

func (a *applier) applied() *Applied {
	c := &a.count
	c.Whiteouts = a.style
	c.Ordered, c.Again = a.ordered, a.again
	c.Opaque = a.opaque["."] && a.lowers == nil
	c.SkippedXattrs = a.skipped
	for p := range a.implicit {
		c.Implicit = append(c.Implicit, p)
	}
	slices.Sort(c.Implicit)
	c.WhiteoutDirs = slices.Sorted(maps.Keys(a.whited))
	c.Described = a.described
	for i, l := range a.foreign {
		if at, ok := a.links[l.Name]; !ok || at != i {
			l.Name = "" // replaced since: what it says of its target counts all the same
		}
		c.Links = append(c.Links, l)
	}
	return c
}
