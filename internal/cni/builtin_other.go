//go:build !linux

package cni

import (
	"context"
	"os/exec"

	"github.com/amphora-go/amphora/internal/fault"
)

func supported() error { return fault.Unsupported("networks need Linux") }

func isBuiltin(typ string) bool {
	_, _, ok := knownFields(typ)
	return ok
}

// builtin is the plugins that only compute: conflists can be validated anywhere.
func builtin(typ string) plugin {
	switch typ {
	case "host-local":
		return hostLocalPlugin{}
	case "portmap":
		return portmapPlugin{}
	}
	return firewallPlugin{}
}

// Up is for Linux.
func (c *CNI) Up(context.Context, []byte) error { return supported() }

// Down is for Linux.
func (c *CNI) Down(context.Context, []byte) error { return supported() }

// Loopback is for Linux.
func Loopback(string) error { return supported() }

func endWithChildren(*exec.Cmd) {}

func isBusy(error) bool { return false }
