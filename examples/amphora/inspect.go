package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/image"
)

var inspectCommand = command{
	name: "inspect", args: "NAME|ID [NAME|ID...]", summary: "Return low-level information on containers, images, networks and volumes",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o inspectOptions
		f.text(&o.format, "f,format", "Format output using a `template`, such as '{{.Status}}'")
		f.text(&o.kind, "type", "Look for this `kind`: container, image, network or volume (default: the first that there is)")
		return o.print
	},
}

// inspectOptions say what to print of what.
type inspectOptions struct{ kind, format string }

// print is the action of all commands that inspect.
func (o *inspectOptions) print(ctx context.Context, a *app, args []string) error {
	eng, err := a.engine(ctx)
	if err != nil {
		return err
	}
	found := []any{}
	failed := a.eachName(ctx, args, func(name string) error {
		v, err := inspect(ctx, eng, o.kind, name)
		if err == nil {
			found = append(found, v)
		}
		return err
	})
	if err := printJSON(a.stdout, o.format, found); err != nil {
		return err
	}
	return failed
}

// inspect finds a container, image, network or volume of that name, in this
// order.
func inspect(ctx context.Context, eng *amphora.Engine, kind, name string) (any, error) {
	switch kind {
	case "":
		for _, kind := range []string{"container", "image", "network", "volume"} {
			// A name that one kind cannot have is one that it has not.
			if v, err := inspect(ctx, eng, kind, name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
				return v, err
			}
		}
		return nil, fmt.Errorf("no such container, image, network or volume: %s", name)
	case "container":
		c, err := eng.Containers().Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return c.Inspect(ctx)
	case "image":
		img, err := eng.Images().Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return inspectImage(ctx, img)
	case "network":
		n, err := eng.Networks().Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return n.Inspect(ctx)
	case "volume":
		v, err := eng.Volumes().Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return v.Inspect(ctx)
	}
	return nil, fmt.Errorf("--type %q: give container, image, network or volume", kind)
}

// imageDetails are printed with Docker's names.
type imageDetails struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      string
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	OS           string `json:"Os"`
	Size         int64
	Config       image.RunConfig
	Layers       []string
	Problem      string `json:",omitempty"`
}

func inspectImage(ctx context.Context, img *image.Image) (*imageDetails, error) {
	info, err := img.Info(ctx)
	if err != nil {
		return nil, err
	}
	cfg := img.Config()
	d := &imageDetails{
		ID: info.ID, RepoTags: familiar(info.Refs), RepoDigests: familiar(info.Digests), Comment: cfg.Comment, Author: cfg.Author,
		Architecture: cfg.Architecture, Variant: cfg.Variant, OS: cfg.OS, Size: info.Size, Config: cfg.Config, Problem: info.Problem,
		Created: info.Created.Format("2006-01-02T15:04:05.999999999Z07:00"),
	}
	for _, id := range cfg.RootFS.DiffIDs {
		d.Layers = append(d.Layers, id.String())
	}
	return d, nil
}

func familiar(refs []image.Ref) []string {
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.Familiar()
	}
	return names
}
