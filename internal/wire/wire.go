// Package wire carries JSON messages and file descriptors between a program
// and a shim, over a UNIX socket of type SOCK_SEQPACKET: one message, one
// packet. A message too long for a packet travels in a memfd.
package wire

import (
	"errors"
	"io/fs"
	"os/exec"

	"github.com/amphora-go/amphora/internal/fault"
)

// Protocol is the version spoken; Minimum the oldest still understood. Peers
// speak the highest that both know.
const (
	Protocol = 1
	Minimum  = 1
)

// Hello is the first message of both sides.
type Hello struct {
	Protocol int    `json:"protocol"`
	Minimum  int    `json:"minimum"`
	Build    string `json:"build,omitempty"`
}

// Check returns an error naming both sides if they have no version in common.
func (h Hello) Check() error {
	if h.Protocol < Minimum || h.Minimum > Protocol {
		return fault.Unsupported("the container's supervisor (%s) speaks protocol %d to %d, this program %d to %d: restart the container, or use a program of its version",
			h.Build, h.Minimum, h.Protocol, Minimum, Protocol)
	}
	return nil
}

// Error is an error with its kinds, on its way to another process.
type Error struct {
	Text  string   `json:"text"`
	Kinds []string `json:"kinds,omitempty"`
}

var kinds = []struct {
	name string
	err  error
}{
	{"notexist", fs.ErrNotExist},
	{"exist", fs.ErrExist},
	{"invalid", fs.ErrInvalid},
	{"permission", fs.ErrPermission},
	{"unsupported", errors.ErrUnsupported},
	{"notfound", exec.ErrNotFound},
	{"running", fault.ErrRunning},
	{"notrunning", fault.ErrNotRunning},
	{"paused", fault.ErrPaused},
	{"inuse", fault.ErrInUse},
	{"slow", fault.ErrSlow},
}

// Pack makes a sendable error; nil for nil.
func Pack(err error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Text: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			e.Kinds = append(e.Kinds, k.name)
		}
	}
	return e
}

// Unpack gives the text and the kinds back; nil for nil.
func (e *Error) Unpack() error {
	if e == nil {
		return nil
	}
	err := errors.New(e.Text)
	for _, name := range e.Kinds {
		for _, k := range kinds {
			if k.name == name {
				err = fault.Kind(k.err, "%w", err)
			}
		}
	}
	return err
}
