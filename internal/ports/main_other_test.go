//go:build !linux

package ports

import (
	"errors"
	"testing"
)

func TestUnsupported(t *testing.T) {
	if _, err := Hold(t.Context(), []Want{{Protocol: "tcp", Port: 80}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
}
