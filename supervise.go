package amphora

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// superviseEvery is how often lost containers are looked for: supervisors die
// rarely, and a look costs a few small reads for each container.
const superviseEvery = time.Second

// Supervise starts the containers whose restart policy demands it after the
// machine was restarted or their own supervisor was killed, and goes on
// watching until ctx ends, whose error it returns. One process at a time
// supervises a Root; the others get an error that Is container.ErrInUse.
//
// A container whose supervisor lives needs none of this.
func (e *Engine) Supervise(ctx context.Context) error {
	l, err := flock.Try(filepath.Join(e.root.Dir, "supervise.lock"), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		return fault.New("supervise", e.root.Dir, fault.Kind(fault.ErrInUse, "another process supervises this store already"))
	}
	if err != nil {
		return fault.New("supervise", e.root.Dir, fault.Opaque(err))
	}
	defer l.Release()
	if _, err := e.Recover(ctx); err != nil {
		e.log.Error("amphora: recover", "error", err)
	}
	tick := time.NewTicker(superviseEvery)
	defer tick.Stop()
	for {
		e.startWaiting(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// startWaiting starts what waits for a supervisor. A container that cannot be
// started says so in its record and is not tried again.
func (e *Engine) startWaiting(ctx context.Context) {
	infos, err := e.containers.List(ctx, &container.Filter{Status: []container.Status{container.Exited}})
	if err != nil {
		e.log.Error("amphora: supervise", "error", err)
		return
	}
	for _, i := range infos {
		if !i.WaitsForSupervisor || ctx.Err() != nil {
			continue
		}
		c, err := e.containers.Get(ctx, i.ID)
		if err == nil {
			err = c.Start(context.WithoutCancel(ctx)) // to cut it short would kill what may run already
		}
		if err != nil {
			e.log.Error("amphora: restart", "container", i.Name, "error", err)
		}
	}
}
