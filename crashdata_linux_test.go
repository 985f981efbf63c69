package amphora_test

import (
	"context"
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
