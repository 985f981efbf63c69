package amphora_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/amphora-go/amphora/container"
)

func commitBox(c *container.Container, ctx context.Context) error {
	if err := c.CopyFS(ctx, "/opt", os.DirFS(".ci")); err != nil {
		return err
	}
	_, err := c.Commit(ctx, &container.CommitOptions{Ref: "committed", Created: time.Unix(1e9, 0)})
	return err
}

func updateBox(c *container.Container, ctx context.Context) error {
	memory := int64(128 << 20)
	if err := c.Update(ctx, &container.UpdateOptions{Memory: &memory}); err != nil {
		return err
	}
	i, err := c.Inspect(ctx)
	if err == nil && i.Spec.Resources.Memory != memory {
		err = fmt.Errorf("the memory limit is %d after an update", i.Spec.Resources.Memory)
	}
	return err
}
