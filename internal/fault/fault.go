// Package fault holds the error type and the sentinels that amphora's public
// packages alias.
//
// Kinds are the standard library's: [fs.ErrNotExist] means only that the
// object asked for is absent, [fs.ErrExist] that its name is taken,
// [fs.ErrInvalid] that the caller asked for something impossible,
// [fs.ErrPermission] and [errors.ErrUnsupported] that this machine or user
// may not. Trouble inside the store is wrapped with [Opaque] so that it never
// looks like one of these.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
)

// Sentinels for states, where the standard library has no kind.
var (
	ErrRunning    = errors.New("container is running")
	ErrNotRunning = errors.New("container is not running")
	ErrPaused     = errors.New("container is paused")
	ErrInUse      = errors.New("in use")
	ErrSlow       = errors.New("stream closed: the reader fell more than 1 MiB behind")
)

// Error says which operation failed, on what, and why.
type Error struct {
	Op   string // for example "container start"
	Name string // the object, as the caller named it; may be empty
	Err  error
}

func (e *Error) Error() string {
	if e.Name == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Name + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New wraps err as an *Error. It returns nil for a nil err, and err itself
// when it already says the same operation and name.
func New(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.Op == op && e.Name == name {
		return err
	}
	return &Error{Op: op, Name: name, Err: err}
}

// kindError has a text of its own and still Is its kinds.
type kindError struct {
	text  string
	kinds []error
}

func (e *kindError) Error() string   { return e.text }
func (e *kindError) Unwrap() []error { return e.kinds }

// Kind returns an error whose text is format alone and which Is kind, and
// also whatever format wraps with %w.
func Kind(kind error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &kindError{text: err.Error(), kinds: []error{kind, err}}
}

// Invalid is Kind(fs.ErrInvalid, ...), the most frequent one.
func Invalid(format string, args ...any) error { return Kind(fs.ErrInvalid, format, args...) }

// NotExist is Kind(fs.ErrNotExist, ...).
func NotExist(format string, args ...any) error { return Kind(fs.ErrNotExist, format, args...) }

// Unsupported says that this machine or user lacks what the call needs: it Is
// errors.ErrUnsupported, and fs.ErrPermission too when a privilege is missing.
func Unsupported(format string, args ...any) error {
	return Kind(errors.ErrUnsupported, format, args...)
}

// Privilege is an error for a missing privilege: both ErrUnsupported and
// ErrPermission, as callers test for either.
func Privilege(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &kindError{text: err.Error(), kinds: []error{errors.ErrUnsupported, fs.ErrPermission, err}}
}

type opaque struct{ err error }

func (o *opaque) Error() string { return o.err.Error() }

func (o *opaque) Is(target error) bool {
	switch target {
	case fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, fs.ErrPermission:
		return false
	}
	return errors.Is(o.err, target)
}

// Opaque keeps err's text and everything errors.Is finds in it, save the
// kinds of io/fs: a blob missing from a damaged store must not look like an
// image that does not exist.
func Opaque(err error) error {
	if err == nil {
		return nil
	}
	return &opaque{err}
}
