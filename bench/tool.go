package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tool is a program with what all its calls have in common.
type tool struct {
	argv []string
	env  []string
	dir  string     // for what it says, shown when it fails
	ns   *namespace // where it runs; nil: ours
}

// run runs the tool to its end. It writes to a file, not to a pipe that a
// supervisor in the background could hold open.
func (t *tool) run(ctx context.Context, args ...string) error {
	_, err := t.output(ctx, nil, args...)
	return err
}

func (t *tool) output(ctx context.Context, stdin *os.File, args ...string) (string, error) {
	f, err := os.CreateTemp(t.dir, "said-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	stderr, err := os.CreateTemp(t.dir, "said-")
	if err != nil {
		return "", err
	}
	defer stderr.Close()
	defer os.Remove(stderr.Name())
	argv := append(slices.Clone(t.argv), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), t.env...)
	cmd.Stdout, cmd.Stderr = f, stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err = t.ns.start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		text, _ := os.ReadFile(stderr.Name())
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(argv[0]), strings.Join(args, " "), err, tail(text))
	}
	text, err := os.ReadFile(f.Name())
	return strings.TrimSpace(string(text)), err
}

// tail is the end of what a program said, in one line.
func tail(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) > 300 {
		text = text[len(text)-300:]
	}
	return strings.ReplaceAll(string(text), "\n", "; ")
}
