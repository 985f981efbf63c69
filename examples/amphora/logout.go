package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

var logoutCommand = command{
	name: "logout", args: "[SERVER]", summary: "Log out from a registry",
	max: 1,
	setup: func(*flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			server := "docker.io"
			if len(args) > 0 {
				server = args[0]
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			err = eng.Images().Logout(ctx, server, nil)
			if errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(a.stdout, "Not logged in to", server)
				return nil
			}
			if err == nil {
				fmt.Fprintln(a.stdout, "Removing login credentials for", server)
			}
			return err
		}
	},
}
