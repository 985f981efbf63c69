package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
)

// imageName is what the test image is called everywhere.
const imageName = "bench:latest"

// amphora is the store under test and the programs that use it.
type amphora struct {
	root, state, helper string
	ns                  *namespace // where its programs run; nil: ours
	cli                 *tool      // nil: examples/amphora did not build
	cliHelper           *tool
}

// startAmphora builds the programs and makes the first store.
func (b *bench) startAmphora(ctx context.Context) (*amphora, error) {
	build := &tool{argv: []string{"go", "build", "-o", b.site.path("bin") + "/"}, dir: b.site.dir}
	if err := build.run(ctx, "./program/run", "./program/exec", "./program/detach", "./program/list", "./program/pull", "./program/import",
		"./program/connect", "./program/attach", "./program/build", "./program/images"); err != nil {
		return nil, err
	}
	ours := &tool{argv: []string{"go", "build", "-C", "..", "-o", b.site.path("bin") + "/"}, dir: b.site.dir}
	if err := ours.run(ctx, "./cmd/amphora-helper"); err != nil {
		return nil, err
	}
	if err := ours.run(ctx, "./examples/amphora"); err != nil {
		b.note("examples/amphora does not build, its rows are missing: %v", err)
	}
	return b.storeIn(ctx, nil, "amphora")
}

// storeIn makes a store whose programs run in a namespace, nil for ours, and
// imports the image.
func (b *bench) storeIn(ctx context.Context, ns *namespace, name string) (*amphora, error) {
	a := &amphora{root: b.site.path(name, "root"), state: b.site.state(name), helper: b.site.path("bin", "amphora-helper"), ns: ns}
	if cli := b.site.path("bin", "amphora"); exists(cli) {
		argv := []string{cli, "-root", a.root, "-state", a.state}
		a.cli = &tool{argv: argv, dir: b.site.dir, ns: ns}
		a.cliHelper = &tool{argv: append(argv[:len(argv):len(argv)], "-helper", a.helper), dir: b.site.dir, ns: ns}
	}
	rootfs, err := os.Open(b.site.path("rootfs.tar"))
	if err != nil {
		return nil, err
	}
	defer rootfs.Close()
	b.site.later(a.removeGroups)
	load := &tool{argv: []string{b.site.path("bin", "import")}, dir: b.site.dir}
	_, err = load.output(ctx, rootfs, a.root, a.state, imageName)
	return a, err
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// removeGroups removes the control group of the store, which is kept while the
// store exists.
func (a *amphora) removeGroups() {
	var engine struct{ ID string }
	data, err := os.ReadFile(filepath.Join(a.root, "engine.json"))
	if err == nil && json.Unmarshal(data, &engine) == nil && engine.ID != "" {
		for _, own := range ownGroups() {
			removeGroups(own + "/amphora-" + engine.ID)
		}
	}
}

// fresh is the library in a process that is started for one container, on a
// network, with a published port or "".
func (b *bench) fresh(a *amphora, network, port string) (c contender, err error) {
	one := b.site.path("one")
	if err := os.WriteFile(one, []byte("1\n"), 0o644); err != nil {
		return c, err
	}
	t := &tool{argv: []string{b.site.path("bin", "run"), a.root, a.state, "", network, port, imageName, "true"}, dir: b.site.dir, ns: a.ns}
	return contender{name: nameFresh, kind: command, do: timed(func(ctx context.Context) error {
		f, err := os.Open(one)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = t.output(ctx, f)
		return err
	})}, nil
}

// command makes a contender of a command line.
func (b *bench) command(name string, t *tool, args ...string) contender {
	return contender{name: name, kind: command, do: timed(func(ctx context.Context) error { return t.run(ctx, args...) })}
}

// ours appends examples/amphora with and without helper, if it was built.
func (b *bench) ours(a *amphora, list []contender, args ...string) []contender {
	if a.cli == nil {
		return list
	}
	return append(list, b.command(nameCLI, a.cli, args...), b.command(nameHelper, a.cliHelper, args...))
}

const (
	nameLibrary = "amphora library, one process"
	nameFresh   = "amphora library, fresh process"
	nameCLI     = "amphora"
	nameHelper  = "amphora -helper"
)
