package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/amphora-go/amphora/container"
)

var recoverCommand = command{
	name: "recover", summary: "Judge every container's record and mend it; starts nothing",
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			r, err := eng.Recover(ctx)
			if r == nil {
				return err
			}
			for _, group := range []struct {
				ids  []string
				what string
			}{
				{r.Mended, "was recorded as running, but had ended"},
				{r.Removed, "was to be removed at its end, and is"},
				{r.Dropped, "was never made completely, and is gone"},
			} {
				for _, id := range group.ids {
					fmt.Fprintln(a.stdout, short(id), group.what)
				}
			}
			return err
		}
	},
}

var superviseCommand = command{
	name: "supervise", summary: "Start containers as their restart policies demand, until interrupted",
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			err = eng.Supervise(ctx)
			if errors.Is(err, container.ErrInUse) {
				return fmt.Errorf("%w; one process does, and it is enough", err)
			}
			return err
		}
	},
}
