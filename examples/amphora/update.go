package main

import (
	"context"

	"github.com/amphora-go/amphora/container"
)

var updateCommand = command{
	name: "update", args: "CONTAINER [CONTAINER...]", summary: "Update configuration of one or more containers",
	min: 1, max: -1,
	setup: func(f *flags) action {
		var o container.UpdateOptions
		optional(f, &o.Memory, "m,memory", "Memory limit (`bytes`)", parseBytes)
		optional(f, &o.MemoryReservation, "memory-reservation", "Memory soft limit (`bytes`)", parseBytes)
		optional(f, &o.MemorySwap, "memory-swap", "Limit of memory plus swap (`bytes`); -1: no limit of swap", parseSwap)
		optional(f, &o.CPUs, "cpus", "Limit to a `number` of CPUs", parseFloat)
		optional(f, &o.CPUShares, "c,cpu-shares", "CPU shares (relative `weight`)", parseNumber[uint64])
		optional(f, &o.CPUSet, "cpuset-cpus", "Allow execution on these `CPUs` only, such as 0-3,7", parseText)
		optional(f, &o.CPUSetMems, "cpuset-mems", "Allow memory of these `nodes` only, such as 0-3", parseText)
		optional(f, &o.Pids, "pids-limit", "Limit of processes (`number`); -1: none", parseNumber[int64])
		optional(f, &o.BlkioWeight, "blkio-weight", "Block IO relative `weight`, 10 to 1000", parseNumber[uint16])
		optional(f, &o.Restart, "restart", "Restart `policy` to apply when a container exits", parseRestart)
		return func(ctx context.Context, a *app, args []string) error {
			return a.each(ctx, args, func(c *container.Container) error { return c.Update(ctx, &o) })
		}
	},
}

func parseText(s string) (string, error) { return s, nil }

// optional defines a flag whose absence is no value.
func optional[T any](f *flags, p **T, name, usage string, parse func(string) (T, error)) {
	value(f, p, name, usage, func(s string) (*T, error) {
		v, err := parse(s)
		return &v, err
	})
}
