package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/image"
)

var artifactCommand = command{
	name: "artifact", summary: "Files in registries: SBOMs, signatures, anything",
	commands: []command{artifactPush, artifactPull, artifactList},
}

var artifactPush = command{
	name: "push", args: "NAME[:TAG] FILE[:MEDIA_TYPE] [FILE...]", summary: "Upload files as an OCI artifact",
	min: 1, max: -1,
	setup: func(f *flags) action {
		o := image.ArtifactOptions{}
		var pairs []string
		var quiet bool
		f.list(&pairs, "annotation", "Set an annotation `KEY=VALUE`")
		f.bool(&quiet, "q,quiet", "Suppress verbose output")
		f.text(&o.Subject, "subject", "Attach it to the image with this `tag` or digest in the repository")
		f.text(&o.Type, "type", "Artifact type, a `media type` (default application/vnd.unknown.artifact.v1)")
		return func(ctx context.Context, a *app, args []string) (err error) {
			if o.Annotations, err = labels(nil, pairs); err != nil {
				return err
			}
			if o.Type == "" {
				o.Type = "application/vnd.unknown.artifact.v1"
			}
			var files []image.ArtifactFile
			for _, arg := range args[1:] {
				file := image.ArtifactFile{Path: arg}
				if path, media, ok := strings.Cut(arg, ":"); ok && strings.Contains(media, "/") {
					file.Path, file.MediaType = path, media
				}
				files = append(files, file)
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p := newProgress(a.stdout)
			if !quiet {
				p.finished, p.existed = "Pushed", "Already exists"
				o.Progress = p.update
			}
			done, err := eng.Images().PushArtifact(ctx, args[0], files, &o)
			p.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: digest: %s size: %d\n", done.Ref, done.Digest, done.Size)
			return nil
		}
	},
}

var artifactPull = command{
	name: "pull", args: "NAME[:TAG|@DIGEST]", summary: "Download the files of an OCI artifact",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var o image.PullArtifactOptions
		dir := "."
		f.text(&dir, "o,output", "Write the files into this `directory` (default the current one)")
		f.bool(&o.Overwrite, "overwrite", "Replace files that are there")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			got, err := eng.Images().PullArtifact(ctx, args[0], dir, &o)
			if err != nil {
				return err
			}
			for _, file := range got.Files {
				fmt.Fprintln(a.stdout, file.Path)
			}
			return nil
		}
	},
}

var artifactList = command{
	name: "ls", args: "NAME[:TAG|@DIGEST]", summary: "List what a registry has about an image: signatures, SBOMs, attestations",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var o image.ReferrersOptions
		var format string
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Digest}}'")
		f.text(&o.Type, "type", "Only artifacts of this `media type`")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			refs, err := eng.Images().Referrers(ctx, args[0], &o)
			if err != nil {
				return err
			}
			t := table[image.Referrer]{columns: []string{"DIGEST", "TYPE", "SIZE"}, cells: func(r image.Referrer) []string {
				return []string{r.Digest, r.Type, size(r.Size)}
			}}
			return t.print(a.stdout, format, false, refs)
		}
	},
}
