package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/container"
)

var cpCommand = command{
	name: "cp", args: "CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH", summary: "Copy files/folders between a container and the local filesystem",
	min: 2, max: 2,
	setup: func(f *flags) action {
		var o container.CopyOptions
		var quiet bool
		f.bool(&o.Archive, "a,archive", "Archive mode (copy all uid/gid information)")
		f.bool(&o.FollowLink, "L,follow-link", "Always follow symbol link in SRC_PATH")
		f.bool(&quiet, "q,quiet", "Suppress progress output during copy")
		return func(ctx context.Context, a *app, args []string) error {
			from, src := splitCopy(args[0])
			to, dst := splitCopy(args[1])
			switch {
			case from != "" && to != "":
				return errors.New("copying between containers is not supported")
			case from == "" && to == "":
				return errors.New("must specify at least one container source")
			}
			c, err := a.container(ctx, from+to)
			if err != nil {
				return err
			}
			n, err := a.copy(ctx, c, from != "", src, dst, &o)
			if err == nil && !quiet && args[1] != "-" {
				fmt.Fprintf(a.stderr, "Successfully copied %s to %s\n", size(n), args[1])
			}
			return err
		}
	},
}

// copy copies out of the container or into it.
func (a *app) copy(ctx context.Context, c *container.Container, out bool, src, dst string, o *container.CopyOptions) (int64, error) {
	switch {
	case out && dst == "-":
		return a.copyToStdout(ctx, c, src, o.FollowLink)
	case out:
		return c.CopyFrom(ctx, src, dst, o)
	case src == "-":
		in := &counting{Reader: a.stdin}
		err := c.Extract(ctx, dst, in, &container.ExtractOptions{CopyUIDGID: o.Archive})
		return in.n, err
	}
	return c.CopyTo(ctx, src, dst, o)
}

func (a *app) copyToStdout(ctx context.Context, c *container.Container, src string, follow bool) (int64, error) {
	if follow {
		st, err := c.Stat(ctx, src)
		if err != nil {
			return 0, err
		}
		if st.Mode&fs.ModeSymlink != 0 {
			src = st.LinkTarget
		}
	}
	r, _, err := c.Archive(ctx, src)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(a.stdout, r)
}

// splitCopy reads CONTAINER:PATH. What begins with "/" or "." is a local path.
func splitCopy(arg string) (name, path string) {
	name, path, ok := strings.Cut(arg, ":")
	if !ok || filepath.IsAbs(arg) || strings.HasPrefix(name, ".") {
		return "", arg
	}
	return name, path
}

// counting counts what is read.
type counting struct {
	io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
