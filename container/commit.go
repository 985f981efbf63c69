package container

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/volume"
)

// CommitOptions tune Commit.
type CommitOptions struct {
	Ref     string    // name of the image; empty: none
	Author  string    //
	Message string    // the image's comment
	Changes []string  // lines of a Dockerfile, see image.RunConfig.Apply
	NoPause bool      // do not freeze the container's processes while its files are copied
	Created time.Time // the image's date; zero: now
}

// Commit makes an image of the container, running or not: its image with one
// more layer that holds what the container changed in its root file system,
// volumes excluded, and with the configuration that it was created with. Its
// processes are frozen while files are copied, and go on also if this process
// is killed. The same changes make the same layer. On failure nothing stays, but
// for the image if all that could not be written is the container's own event.
func (c *Container) Commit(ctx context.Context, opts *CommitOptions) (*image.Image, error) {
	if opts == nil {
		opts = &CommitOptions{}
	}
	img, err := c.commit(ctx, opts)
	if err != nil {
		return nil, c.fail("commit", err)
	}
	return img, nil
}

func (c *Container) commit(ctx context.Context, opts *CommitOptions) (_ *image.Image, err error) {
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return nil, err
	}
	spec, err := readSpec(c.m.root, c.id)
	if err != nil {
		return nil, err
	}
	if err := new(image.RunConfig).Apply(opts.Changes...); err != nil {
		return nil, err // before anything is copied
	}
	configure := func(cfg *image.RunConfig) error {
		if err := lay(spec, cfg); err != nil {
			return err
		}
		cfg.Labels = rec.Labels
		return cfg.Apply(opts.Changes...)
	}
	if !opts.NoPause {
		client, err := c.freeze(ctx)
		if err != nil {
			return nil, err
		}
		if client != nil {
			defer client.Close()
		}
		step.At("commit.held")
	}
	r, err := c.layer(ctx, rec)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	img, err := c.m.images.Commit(ctx, rec.Manifest, r, &image.CommitOptions{Ref: opts.Ref, Configure: configure,
		Author: opts.Author, Comment: opts.Message, CreatedBy: strings.Join(rec.Command, " "), Created: opts.Created})
	if err != nil {
		return nil, err
	}
	step.At("commit.named")
	return img, c.logCommit(context.WithoutCancel(ctx), map[string]string{"imageID": img.ID(), "imageRef": opts.Ref, "comment": opts.Message})
}

// logCommit is the container's own event. The record takes its number, so that
// recovery knows that nothing is missing.
func (c *Container) logCommit(ctx context.Context, attrs map[string]string) error {
	return c.locked(ctx, func(rec *record.Container) error { return c.m.root.Save(ctx, rec, "commit", attrs) })
}

// freeze stops the container's processes until the client is closed. It is nil
// for a container that has none.
func (c *Container) freeze(ctx context.Context) (*shim.Client, error) {
	client, err := c.control(ctx)
	if err == nil {
		if err = client.Hold(ctx); err != nil {
			client.Close()
		}
	}
	if errors.Is(err, ErrNotRunning) {
		return nil, nil
	}
	return client, err
}

// layer is the tar of what the container changed.
func (c *Container) layer(ctx context.Context, rec *record.Container) (io.ReadCloser, error) {
	if rec.Rootfs != "" {
		return c.Export(ctx)
	}
	d, err := c.delta(ctx, rec)
	if err != nil {
		return nil, err
	}
	o := &archive.CreateOptions{Overlay: d.overlay, Skip: d.skip, Root: true}
	if !d.overlay {
		o.Skip, o.Deleted = archive.Only(d.changes)
	}
	return c.stream(ctx, func() error { return nil }, func(ctx context.Context, w io.Writer) error {
		if !exists(d.dir) {
			return tar.NewWriter(w).Close() // it never ran
		}
		return archive.Create(ctx, w, d.dir, o)
	}), nil
}

// lay lays what a Spec says over the configuration of its image.
func lay(spec *Spec, cfg *image.RunConfig) error {
	if spec.Entrypoint != nil {
		cfg.Entrypoint, cfg.Cmd = spec.Entrypoint, nil
	}
	if len(spec.Command) > 0 {
		cfg.Cmd = spec.Command
	}
	for _, e := range spec.Env {
		key, _, found := strings.Cut(e, "=")
		cfg.Env = slices.DeleteFunc(cfg.Env, func(o string) bool { return strings.HasPrefix(o, key+"=") })
		if found {
			cfg.Env = append(cfg.Env, e)
		}
	}
	if spec.Dir != "" {
		cfg.WorkingDir = spec.Dir
	}
	if spec.User != "" {
		cfg.User = spec.User
	}
	if spec.Stop.Signal != "" {
		cfg.StopSignal = spec.Stop.Signal
	}
	var lines []string
	for _, e := range spec.Expose {
		lines = append(lines, "EXPOSE "+e)
	}
	for _, m := range spec.Mounts {
		if (m.Type == "" || m.Type == volume.Named) && m.Source == "" {
			if cfg.Volumes == nil {
				cfg.Volumes = map[string]struct{}{}
			}
			cfg.Volumes[m.Target] = struct{}{}
		}
	}
	return cfg.Apply(lines...)
}
