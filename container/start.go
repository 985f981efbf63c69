package container

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
)

// Start starts the container and returns once its process runs. A command
// that is not there is exec.ErrNotFound, one that cannot be executed
// fs.ErrPermission, a container that runs already ErrRunning.
//
// ctx bounds the call: a container that has started goes on when it ends.
func (c *Container) Start(ctx context.Context) error {
	s, err := c.start(ctx, nil, nil, nil)
	if err != nil {
		return c.fail("start", err)
	}
	return s.Close()
}

// start launches the supervisor with the given pipes as lossless streams.
func (c *Container) start(ctx context.Context, stdin, stdout, stderr *os.File) (*shim.Started, error) {
	alive, err := c.takeAlive(ctx)
	if err != nil {
		return nil, err
	}
	defer alive.Release() // our copy; the supervisor has its own
	rec, err := c.m.root.Load(c.id)
	if err != nil {
		return nil, err
	}
	if err := c.clearStopped(ctx, rec); err != nil {
		return nil, err
	}
	if err := c.image(ctx, rec); err != nil {
		return nil, err
	}
	base, err := c.m.group()
	if err != nil {
		return nil, err
	}
	o := &shim.LaunchOptions{Root: c.m.root, ID: c.id, Base: base, Alive: alive.File(), Stdin: stdin, Stdout: stdout, Stderr: stderr}
	if rec.Owned {
		if o.Owners, err = c.m.ownerFiles(); err != nil {
			return nil, err
		}
	}
	if ref, ok := strings.CutPrefix(rec.Network, "container:"); ok {
		if o.NetNS, err = c.netnsOf(ctx, ref); err != nil {
			return nil, err
		}
		defer o.NetNS.Close()
	}
	hold, err := c.m.holdGroup(ctx)
	if err != nil {
		return nil, err
	}
	defer hold.Release()
	started, err := c.m.launcher.Launch(ctx, o)
	if err == nil {
		return started, nil
	}
	// What the attempt left is mended before anybody can look.
	alive.Release()
	_, jerr := recovery.Judge(context.WithoutCancel(ctx), c.m.root, c.id)
	if errors.Is(jerr, os.ErrNotExist) {
		jerr = nil // it was to be removed at its end, and is
	}
	return nil, errors.Join(err, jerr)
}

// takeAlive gets the alive lock of a container that is at rest.
func (c *Container) takeAlive(ctx context.Context) (*flock.Lock, error) {
	for {
		s, err := recovery.Judge(ctx, c.m.root, c.id)
		if err != nil {
			return nil, err
		}
		switch {
		case s.Status == record.Running, s.Status == record.Restarting, s.Starting:
			return nil, ErrRunning
		case s.Status == record.Paused:
			return nil, ErrPaused
		case s.Status == record.Removing:
			return nil, fault.NotExist("the container is being removed")
		case s.Unwritten != nil:
			return nil, s.Unwritten
		}
		alive, err := c.m.root.TryAlive(c.id)
		if errors.Is(err, flock.ErrHeld) { // a supervisor on its way out, or another starter: look again
			err = pause(ctx)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if s, err = c.m.root.JudgeHeld(c.id); err == nil && !s.Lost {
			return alive, nil
		}
		alive.Release()
		if err != nil {
			return nil, err
		}
	}
}

// clearStopped forgets that a caller once stopped the container.
func (c *Container) clearStopped(ctx context.Context, rec *record.Container) error {
	if !rec.Stopped {
		return nil
	}
	return c.locked(ctx, func(rec *record.Container) error {
		rec.Stopped = false
		return c.m.root.SaveQuietly(rec)
	})
}

// image makes sure that what the container's root is made of is there.
func (c *Container) image(ctx context.Context, rec *record.Container) error {
	if err := c.layers(ctx, rec); err != nil {
		return err
	}
	return c.copyLayers(ctx, rec)
}

// layers makes sure that the image's layers are unpacked: those that were not
// synced when the machine lost power were thrown away.
func (c *Container) layers(ctx context.Context, rec *record.Container) error {
	for _, chain := range rec.Layers {
		if layers.Settled(c.m.root.Dir, chain) {
			continue
		}
		img, err := c.m.images.Get(ctx, rec.ImageID)
		if err != nil {
			return fault.Opaque(err)
		}
		lease, err := img.Prepare(ctx)
		if err != nil {
			return err
		}
		return lease.Close()
	}
	return nil
}

// netnsOf gets the network namespace of a running container.
func (c *Container) netnsOf(ctx context.Context, id string) (*os.File, error) {
	other := &Container{m: c.m, id: id}
	client, err := other.control(ctx)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrNotRunning) {
			return nil, fault.Kind(ErrNotRunning, "the container %s, whose network is to be shared, is not running: start it first", record.Short(id))
		}
		return nil, err
	}
	defer client.Close()
	return client.NetNS(ctx)
}
