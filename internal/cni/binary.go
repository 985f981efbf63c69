package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// runBinary runs a plugin's binary. Unlike libcni's own it returns when ctx
// ends, whatever the plugin has started meanwhile. What the plugin says of a
// failure is a *types.Error.
func runBinary(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	for try := 0; ; try++ {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, path)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
		cmd.WaitDelay = time.Second
		endWithChildren(cmd)
		err := cmd.Run()
		switch {
		case err == nil:
			return stdout.Bytes(), nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("plugin %s was ended: %w", path, context.Cause(ctx))
		case isBusy(err) && try < 20: // it is being installed
			time.Sleep(50 * time.Millisecond)
			continue
		}
		said := new(types.Error)
		if json.Unmarshal(stdout.Bytes(), said) == nil && said.Msg != "" {
			return nil, said
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return nil, fmt.Errorf("run plugin %s: %w", path, err)
		}
		said.Msg = fmt.Sprintf("plugin %s: %v: %s", path, err, strings.TrimSpace(stdout.String()+" "+stderr.String()))
		return nil, said
	}
}
