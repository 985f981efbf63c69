package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/container"
)

// Each of the following runs a container of its own, as short as os/exec runs
// a program: it is gone when Output returns.

func (d *demo) limited(ctx context.Context, word string) ([]byte, error) {
	cmd := d.eng.Command(ctx, "hello", word)
	cmd.Resources = limits
	return cmd.Output()
}

// memoryLimit: the kernel kills who goes on beyond the limit.
func (d *demo) memoryLimit(ctx context.Context) error {
	_, err := d.limited(ctx, "memory")
	var exit *container.ExitError
	if !errors.As(err, &exit) || !exit.OOMKilled {
		return fmt.Errorf("the memory limit did not hold: %w", err)
	}
	d.note("exit code", "%d", exit.Code)
	d.note("OOMKilled", "%t", exit.OOMKilled)
	return nil
}

// threadLimit: no more than 20 can be started; Go's runtime gives up then.
func (d *demo) threadLimit(ctx context.Context) error {
	_, err := d.limited(ctx, "threads")
	var exit *container.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("the limit of threads did not hold: %w", err)
	}
	line, _, _ := strings.Cut(string(exit.Stderr), " (")
	d.note("exit code", "%d", exit.Code)
	d.note("stderr", "%s", line)
	return nil
}

// processorLimit: who wants more than half a processor has to wait.
func (d *demo) processorLimit(ctx context.Context) error {
	out, err := d.limited(ctx, "processor")
	if err != nil {
		return err
	}
	d.note("output", "%s", out)
	return nil
}
