package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
)

var manifestCommand = command{
	name: "manifest", summary: "Manage manifest lists: images for several platforms under one name",
	commands: []command{manifestCreateCommand, manifestAnnotateCommand, manifestInspectCommand, manifestPushCommand, manifestRmCommand},
}

var manifestCreateCommand = command{
	name: "create", args: "MANIFEST_LIST MANIFEST [MANIFEST...]", summary: "Create a local manifest list, or add to it",
	min: 2, max: -1,
	setup: func(f *flags) action {
		var amend bool
		f.bool(&amend, "a,amend", "Amend an existing manifest list")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			if _, err := eng.Images().Get(ctx, args[0]); err == nil && !amend {
				return fmt.Errorf("%s exists already; give --amend to add to it", args[0])
			}
			if _, err := eng.Images().AddToIndex(ctx, args[0], args[1:]...); err != nil {
				return err
			}
			ref, err := image.ParseRef(args[0])
			fmt.Fprintln(a.stdout, "Created manifest list", ref)
			return err
		}
	},
}

var manifestAnnotateCommand = command{
	name: "annotate", args: "MANIFEST_LIST MANIFEST", summary: "Add information to an entry of a local manifest list",
	min: 2, max: 2,
	setup: func(f *flags) action {
		var p ocispec.Platform
		var features, annotations []string
		f.list(&annotations, "annotation", "Set an annotation `KEY=VALUE`")
		f.text(&p.Architecture, "arch", "Set architecture")
		f.text(&p.OS, "os", "Set operating system")
		f.list(&features, "os-features", "Set operating system features")
		f.text(&p.OSVersion, "os-version", "Set operating system version")
		f.text(&p.Variant, "variant", "Set architecture variant")
		return func(ctx context.Context, a *app, args []string) error {
			p.OSFeatures = slices.Collect(separated(features))
			more, err := labels(nil, annotations)
			if err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			_, err = editEntry(ctx, eng.Images(), args[0], args[1], func(index *ocispec.Index, i int) {
				e := &index.Manifests[i]
				if e.Platform == nil {
					e.Platform = &ocispec.Platform{}
				}
				annotate(e.Platform, &p)
				for k, v := range more {
					if e.Annotations == nil {
						e.Annotations = map[string]string{}
					}
					e.Annotations[k] = v
				}
			})
			return err
		}
	},
}

func annotate(p, with *ocispec.Platform) {
	for _, s := range []struct {
		to   *string
		from string
	}{{&p.Architecture, with.Architecture}, {&p.OS, with.OS}, {&p.OSVersion, with.OSVersion}, {&p.Variant, with.Variant}} {
		if s.from != "" {
			*s.to = s.from
		}
	}
	if len(with.OSFeatures) > 0 {
		p.OSFeatures = with.OSFeatures
	}
}

// editEntry changes the entry of an image, given by its name or its digest.
func editEntry(ctx context.Context, images *image.Store, list, entry string, edit func(index *ocispec.Index, i int)) (string, error) {
	digest := entry
	if !strings.HasPrefix(entry, "sha256:") {
		d, err := images.Document(ctx, entry)
		if err != nil {
			return "", err
		}
		digest = d.Digest
		if img, err := images.Get(ctx, entry); err == nil {
			digest = img.Manifest() // of an index, the platform's
		}
	}
	return images.EditIndex(ctx, list, func(index *ocispec.Index) error {
		i := slices.IndexFunc(index.Manifests, func(e ocispec.Descriptor) bool { return string(e.Digest) == digest })
		if i < 0 {
			return fmt.Errorf("%s is not in the manifest list", entry)
		}
		edit(index, i)
		return nil
	})
}

var manifestInspectCommand = command{
	name: "inspect", args: "NAME", summary: "Display a manifest or manifest list, of this store or of a registry",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var raw bool
		f.bool(&raw, "raw", "Print it byte for byte")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			d, err := eng.Images().Document(ctx, args[0])
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if raw {
				out.Write(d.Data)
			} else if err := json.Indent(&out, d.Data, "", "   "); err != nil {
				return err
			} else {
				out.WriteByte('\n')
			}
			_, err = a.stdout.Write(out.Bytes())
			return err
		}
	},
}

var manifestPushCommand = command{
	name: "push", args: "MANIFEST_LIST", summary: "Push a manifest list and its images to a registry",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var purge bool
		f.bool(&purge, "p,purge", "Remove the local manifest list after push")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			done, err := eng.Images().Push(ctx, args[0], &image.PushOptions{Whole: true})
			for _, d := range done {
				fmt.Fprintln(a.stdout, d.Digest)
			}
			if err == nil && purge {
				_, err = eng.Images().Remove(ctx, args[0], nil)
			}
			return err
		}
	},
}

var manifestRmCommand = command{
	name: "rm", args: "MANIFEST_LIST [MANIFEST...]", summary: "Remove entries from a local manifest list, or all of it",
	min: 1, max: -1,
	setup: func(*flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				_, err := eng.Images().Remove(ctx, args[0], nil)
				return err
			}
			for _, entry := range args[1:] {
				if _, err := editEntry(ctx, eng.Images(), args[0], entry, func(index *ocispec.Index, i int) {
					index.Manifests = slices.Delete(index.Manifests, i, i+1)
				}); err != nil {
					return err
				}
			}
			return nil
		}
	},
}
