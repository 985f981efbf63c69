//go:build !linux

package main

import (
	"errors"
	"fmt"
	"os/exec"
)

func unshare(*exec.Cmd) error {
	return fmt.Errorf("network namespaces are Linux's: %w", errors.ErrUnsupported)
}
