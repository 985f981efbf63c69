package main

import "context"

var tagCommand = command{
	name: "tag", args: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", summary: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
	min: 2, max: 2,
	setup: func(f *flags) action {
		return func(ctx context.Context, a *app, args []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			return eng.Images().Tag(ctx, args[0], args[1])
		}
	},
}
