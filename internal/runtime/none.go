//go:build !linux || !cgo

package runtime

import (
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
)

// Container is a created container; none can be created in this build.
type Container struct{}

// Running is a started process.
type Running struct{ Pid int }

var errBuild = fault.Unsupported("this build cannot run containers: they need Linux, and cgo for libcontainer (CGO_ENABLED=1)")

// Create reports what this build lacks. The other calls cannot be reached.
func Create(*Config) (*Container, error) { return nil, errBuild }

func (c *Container) Start(*Process, func(int) error) (*Running, error) { return nil, errBuild }
func (c *Container) Exec(*Process) (*Running, error)                   { return nil, errBuild }
func (c *Container) Pause() error                                      { return errBuild }
func (c *Container) Resume() error                                     { return errBuild }
func (c *Container) Destroy() error                                    { return errBuild }
func (c *Container) Pids() ([]int, error)                              { return nil, errBuild }
func (r *Running) Wait() Exit                                          { return Exit{Code: 255} }
func (r *Running) Signal(syscall.Signal) error                         { return errBuild }

// HasCapability is false where there are none.
func HasCapability(uint) bool { return false }
