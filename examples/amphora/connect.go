package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/amphora-go/amphora/network"
)

var networkConnect = command{
	name: "connect", args: "NETWORK CONTAINER", summary: "Connect a container to a network",
	min: 2, max: 2,
	setup: func(f *flags) action {
		var e network.Endpoint
		defineEndpoint(f, &e, "alias")
		value(f, &e.Priority, "gw-priority", "The network of the highest `priority` gives the default gateway", parseNumber[int])
		return func(ctx context.Context, a *app, args []string) error {
			e.Network = args[0]
			c, err := a.container(ctx, args[1])
			if err != nil {
				return err
			}
			return c.Connect(ctx, e)
		}
	},
}

var networkDisconnect = command{
	name: "disconnect", args: "NETWORK CONTAINER", summary: "Disconnect a container from a network",
	min: 2, max: 2,
	setup: func(f *flags) action {
		var force bool
		f.bool(&force, "f,force", "Also disconnect what is no container: a namespace that a program attached")
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[1])
			if err == nil {
				return c.Disconnect(ctx, args[0])
			}
			if !force || !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return a.detach(ctx, args[0], args[1], err)
		}
	},
}

// detach disconnects what is no container: if there is nothing of that name
// either, the error stays what it was.
func (a *app) detach(ctx context.Context, name, id string, err error) error {
	n, nerr := a.eng.Networks().Get(ctx, name)
	if nerr != nil {
		return nerr
	}
	info, nerr := n.Inspect(ctx)
	if nerr != nil {
		return nerr
	}
	if !slices.ContainsFunc(info.Attached, func(at network.Attachment) bool { return at.ID == id }) {
		return err
	}
	return a.eng.Networks().Detach(ctx, id, n.Name())
}
