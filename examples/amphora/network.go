package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/amphora-go/amphora/network"
)

var networkCommand = command{
	name: "network", args: "COMMAND", summary: "Manage networks",
	commands: []command{networkConnect, networkCreate, networkDisconnect, networkInspect, networkList, networkPrune, networkReload, networkRemove},
}

var networkInspect = command{
	name: "inspect", args: "NETWORK [NETWORK...]", summary: "Display detailed information on one or more networks",
	min: 1, max: -1,
	setup: func(f *flags) action {
		o := inspectOptions{kind: "network"}
		var verbose bool
		f.text(&o.format, "f,format", "Format output using a `template`, such as '{{.Interface}}'")
		f.bool(&verbose, "v,verbose", "Accepted for Docker's sake: all is printed")
		return o.print
	},
}

var networkRemove = command{
	name: "rm", args: "NETWORK [NETWORK...]", summary: "Remove one or more networks",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var force bool
		f.bool(&force, "f,force", "Do not error if the network does not exist")
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			return a.eachName(ctx, args, func(name string) error {
				err := eng.Networks().Remove(ctx, name)
				switch {
				case err == nil:
					fmt.Fprintln(a.stdout, name)
				case force && errors.Is(err, fs.ErrNotExist):
					a.complain(err)
					return nil
				}
				return err
			})
		}
	},
}

var networkPrune = command{
	name: "prune", summary: "Remove all unused networks",
	setup: func(f *flags) action {
		var o network.PruneOptions
		var force bool
		each(f, "filter", "Prune only what matches the `condition`: until=TIME or label=KEY[=VALUE]", func(s string) (err error) {
			switch key, v, _ := strings.Cut(s, "="); key {
			case "until":
				o.Before, err = parseTime(v)
			case "label":
				o.Labels = append(o.Labels, v)
			default:
				err = fmt.Errorf("unknown filter %q: use until or label", key)
			}
			return err
		})
		f.bool(&force, "f,force", "Do not prompt for confirmation")
		return func(ctx context.Context, a *app, _ []string) error {
			if !force && !a.confirm("WARNING! This will remove all custom networks not used by at least one container.") {
				return nil
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			names, err := eng.Networks().Prune(ctx, &o)
			if len(names) > 0 {
				fmt.Fprintf(a.stdout, "Deleted Networks:\n%s\n\n", strings.Join(names, "\n"))
			}
			return err
		}
	},
}

var networkReload = command{
	name: "reload", summary: "Make interfaces and packet filter of all networks again, after others took them away",
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			return eng.Networks().Reload(ctx)
		}
	},
}
