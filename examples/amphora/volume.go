package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/volume"
)

var volumeCommand = command{
	name: "volume", args: "COMMAND", summary: "Manage volumes",
	commands: []command{volumeCreate, volumeInspect, volumeList, volumePrune, volumeRemove},
}

var volumeCreate = command{
	name: "create", args: "[VOLUME]", summary: "Create a volume",
	max: 1,
	setup: func(f *flags) action {
		var spec volume.Spec
		var pairs, opts []string
		f.text(&spec.Driver, "d,driver", "Specify volume `driver` name (default local)")
		f.list(&pairs, "label", "Set metadata for a volume (`key=value`)")
		f.text(&spec.Name, "name", "Specify volume name")
		f.list(&opts, "o,opt", "Set driver specific options (`key=value`)")
		return func(ctx context.Context, a *app, args []string) (err error) {
			if len(args) > 0 {
				spec.Name = args[0]
			}
			if spec.Labels, err = labels(nil, pairs); err != nil {
				return err
			}
			if spec.Options, err = driverOptions(opts); err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			v, _, err := eng.Volumes().Ensure(ctx, &spec)
			if err == nil {
				fmt.Fprintln(a.stdout, v.Name())
			}
			return err
		}
	},
}

var volumeInspect = command{
	name: "inspect", args: "VOLUME [VOLUME...]", summary: "Display detailed information on one or more volumes",
	min: 1, max: -1,
	setup: func(f *flags) action {
		o := inspectOptions{kind: "volume"}
		f.text(&o.format, "f,format", "Format output using a `template`, such as '{{.Source}}'")
		return o.print
	},
}

var volumeRemove = command{
	name: "rm", args: "VOLUME [VOLUME...]", summary: "Remove one or more volumes",
	min: 1, max: -1,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			return a.eachName(ctx, args, func(name string) error {
				err := eng.Volumes().Remove(ctx, name)
				if err == nil {
					fmt.Fprintln(a.stdout, name)
				}
				return err
			})
		}
	},
}

var volumePrune = command{
	name: "prune", summary: "Remove unused local volumes",
	setup: func(f *flags) action {
		var o volume.PruneOptions
		var force bool
		f.bool(&o.Named, "a,all", "Remove all unused volumes, not just anonymous ones")
		f.bool(&force, "f,force", "Do not prompt for confirmation")
		return func(ctx context.Context, a *app, _ []string) error {
			which := "anonymous local"
			if o.Named {
				which = "local"
			}
			if !force && !a.confirm(fmt.Sprintf("WARNING! This will remove %s volumes not used by at least one container.", which)) {
				return nil
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			p, err := eng.Volumes().Prune(ctx, &o)
			if p != nil {
				if len(p.Names) > 0 {
					fmt.Fprintf(a.stdout, "Deleted Volumes:\n%s\n\n", strings.Join(p.Names, "\n"))
				}
				fmt.Fprintln(a.stdout, "Total reclaimed space:", size(p.Bytes))
			}
			return err
		}
	},
}

// confirm asks before something that cannot be undone.
func (a *app) confirm(warning string) bool {
	fmt.Fprintf(a.stdout, "%s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(a.stdin).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// joined is "a=1,b=2".
func joined(m map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return strings.Join(pairs, ",")
}
