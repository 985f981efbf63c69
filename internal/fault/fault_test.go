package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestKindKeepsTextAndKinds(t *testing.T) {
	err := New("image get", "alpine", NotExist("no such image: %w", context.Canceled))
	if got, want := err.Error(), "image get alpine: no such image: context canceled"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	for _, target := range []error{fs.ErrNotExist, context.Canceled} {
		if !errors.Is(err, target) {
			t.Errorf("error does not match %v", target)
		}
	}
	if again := New("image get", "alpine", err); again != err {
		t.Errorf("New wrapped the same operation twice: %v", again)
	}
}

func TestPrivilegeIsBoth(t *testing.T) {
	err := Privilege("needs root")
	if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Privilege is not both kinds: %v", err)
	}
}

func TestOpaqueHidesKinds(t *testing.T) {
	inner := fmt.Errorf("read blob: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT})
	err := Opaque(inner)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("an opaque error still looks like a missing object")
	}
	if !errors.Is(Opaque(fmt.Errorf("write: %w", syscall.ENOSPC)), syscall.ENOSPC) {
		t.Error("an opaque error lost ENOSPC")
	}
	if Opaque(nil) != nil || New("a", "b", nil) != nil {
		t.Error("nil did not stay nil")
	}
}
