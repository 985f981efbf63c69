package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/build/deliver"
	"github.com/amphora-go/amphora/internal/fault"
)

// export brings the products to all outputs and says what became of them.
func (x *exporter) export(ctx context.Context, products []product, outputs []Output) (*Result, error) {
	if len(outputs) == 0 {
		outputs = []Output{{}}
	}
	named, images := false, false
	for _, o := range outputs {
		named = named || o.Type == OutputImage
		images = images || o.Type == OutputImage || o.Type == OutputOCI || o.Type == OutputDocker
	}
	r := &Result{}
	for _, p := range products {
		r.Platforms = append(r.Platforms, PlatformResult{Platform: p.platform})
	}
	var made *image.Assembled
	if images {
		err := x.stepped("exporting to image", func(note func(string)) (err error) {
			made, err = x.assemble(ctx, products, named, r, note)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, o := range outputs {
		if o.Type == OutputImage {
			continue
		}
		err := x.stepped(o.title(), func(func(string)) error { return x.output(ctx, products, made, o) })
		if err != nil {
			return nil, fmt.Errorf("output of type %s: %w", o.Type, err)
		}
	}
	return r, nil
}

func (o Output) title() string {
	switch {
	case o.Type == OutputDir:
		return "exporting to client directory"
	case o.Type == OutputTar:
		return "exporting to client tarball"
	}
	return "exporting to " + string(o.Type) + " image format"
}

// assemble makes the image that is wanted in the store or in an archive.
func (x *exporter) assemble(ctx context.Context, products []product, named bool, r *Result, note func(string)) (*image.Assembled, error) {
	parts, err := x.parts(ctx, products)
	if err != nil {
		return nil, err
	}
	note("exporting layers")
	made, err := x.image(ctx, parts, named)
	if err != nil {
		return nil, err
	}
	r.Descriptor, r.Manifest, r.ID = made.Target, string(made.Target.Digest), string(made.Target.Digest)
	for i := range r.Platforms {
		r.Platforms[i].Manifest, r.Platforms[i].ID = string(made.Manifests[i].Digest), string(made.Configs[i].Digest)
	}
	if len(products) == 1 {
		r.ID = r.Platforms[0].ID
	}
	note("writing image " + r.ID)
	if !named {
		return made, nil
	}
	r.Image = made.Image
	for _, name := range x.names {
		ref, err := image.ParseRef(name)
		if err != nil {
			return nil, err
		}
		r.Names = append(r.Names, ref.String())
		note("naming to " + ref.String())
	}
	return made, nil
}

// stepped tells of an export as of a step.
func (x *exporter) stepped(name string, do func(note func(string)) error) error {
	s := Step{ID: name, Name: name}
	tell := func(e Event) {
		if x.tell != nil {
			e.Time, e.Step = time.Now(), s
			x.tell(e)
		}
	}
	tell(Event{Kind: StepStarted})
	if err := do(func(item string) { tell(Event{Kind: StepProgress, Item: item}) }); err != nil {
		tell(Event{Kind: StepFailed, Err: err})
		return err
	}
	tell(Event{Kind: StepDone})
	return nil
}

func (x *exporter) output(ctx context.Context, products []product, made *image.Assembled, o Output) error {
	if o.Type == OutputDir || o.Type == OutputTar {
		trees, err := x.trees(products)
		if err != nil {
			return err
		}
		if o.Type == OutputDir {
			return deliver.Directory(ctx, o.Path, trees)
		}
		return o.write(func(w io.Writer) error { return deliver.Tar(ctx, w, trees) })
	}
	return o.write(func(w io.Writer) error {
		return x.images.SaveAssembled(ctx, x.lease, w, made, x.names, &image.SaveOptions{OCI: o.Type == OutputOCI})
	})
}

// write gives f the writer, or a file that gets its name once it is whole. What
// is no file, such as a pipe, is written in place.
func (o Output) write(f func(io.Writer) error) error {
	if o.Writer != nil {
		return f(o.Writer)
	}
	if st, err := os.Stat(o.Path); err == nil && !st.Mode().IsRegular() {
		if st.IsDir() {
			return fault.Invalid("%s is a directory; give the name of a file", o.Path)
		}
		out, err := os.OpenFile(o.Path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(out), out.Close())
	}
	out, err := os.CreateTemp(filepath.Dir(o.Path), "."+filepath.Base(o.Path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails harmlessly once it is renamed
	if err := errors.Join(f(out), out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), o.Path)
}

// trees are the files of the products. Those of several platforms go into
// directories such as linux_arm64.
func (x *exporter) trees(products []product) ([]deliver.Tree, error) {
	trees := make([]deliver.Tree, len(products))
	for i, p := range products {
		lowers, err := x.store.Lowers(p.layers)
		if err != nil {
			return nil, err
		}
		trees[i] = deliver.Tree{Lowers: lowers, Name: strings.ReplaceAll(p.platform, "/", "_")}
		if p.epoch != nil {
			trees[i].Latest = *p.epoch
		}
	}
	return trees, nil
}
