//go:build !linux

package wire

import (
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

var errLinux = fault.Unsupported("supervisors run on Linux only")

// Conn is one connection; there are none off Linux.
type Conn struct{}

func Dial(string) (*Conn, error)                { return nil, errLinux }
func (c *Conn) Send(any, ...*os.File) error     { return errLinux }
func (c *Conn) Receive(any) ([]*os.File, error) { return nil, errLinux }
func (c *Conn) Close() error                    { return errLinux }
func CloseAll([]*os.File)                       {}
func IsPipe(*os.File) error                     { return errLinux }

// GrowPipe does nothing off Linux.
func GrowPipe(*os.File) {}
