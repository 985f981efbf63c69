package container

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// UpdateOptions are what Update changes; what is nil stays as it is. Values
// mean what they mean in Resources.
type UpdateOptions struct {
	Memory            *int64
	MemoryReservation *int64
	MemorySwap        *int64
	CPUs              *float64
	CPUShares         *uint64
	CPUSet            *string
	CPUSetMems        *string
	Pids              *int64 // 0 and -1: no limit
	BlkioWeight       *uint16
	Restart           *Restart
}

// Update changes limits and the restart policy of the container. One that runs
// has them at once. They are checked as Create checks them, and what the
// kernel refuses, such as a memory limit below what is in use, is an error: if
// Update fails everything is as it was. A limit can be lifted from a container
// at rest by its zero value, and from one that runs if the kernel has a word
// for that: memory, cpus and pids.
func (c *Container) Update(ctx context.Context, opts *UpdateOptions) error {
	if opts == nil || *opts == (UpdateOptions{}) {
		return c.fail("update", fault.Invalid("nothing to update: give a limit or a restart policy"))
	}
	for {
		err := c.updateOnce(ctx, opts)
		if !errors.Is(err, errStale) {
			return c.failed("update", err)
		}
		if err := pause(ctx); err != nil {
			return c.fail("update", err)
		}
	}
}

// errStale: somebody else changed the record, or the container was started or
// ended, since it was looked at.
var errStale = errors.New("the container was changed meanwhile")

func (c *Container) updateOnce(ctx context.Context, o *UpdateOptions) error {
	s, err := recovery.Judge(ctx, c.m.root, c.id)
	if err != nil {
		return err
	}
	if s.Status == record.Removing {
		return fault.NotExist("the container is being removed")
	}
	u, err := c.updated(s.Container, o)
	if err != nil {
		return err
	}
	alive, err := c.m.root.TryAlive(c.id)
	if errors.Is(err, flock.ErrHeld) {
		err = c.ask(ctx, func(client *shim.Client) error { return client.Update(ctx, u) })
		if errors.Is(err, ErrInUse) && c.changed(u.Seq) || errors.Is(err, ErrNotRunning) {
			return errStale
		}
		return err
	}
	if err != nil {
		return err
	}
	defer alive.Release()
	return c.locked(ctx, func(rec *record.Container) error {
		if rec.Seq != u.Seq {
			return errStale
		}
		if rec.Restart = u.Restart; u.Limits != nil {
			rec.Update = u.Limits
		}
		return c.m.root.Save(ctx, rec, "update", nil)
	})
}

func (c *Container) changed(seq uint64) bool {
	rec, err := c.m.root.Load(c.id)
	return err == nil && rec.Seq != seq
}

func (o *UpdateOptions) apply(s *Spec) {
	r := &s.Resources
	set(&r.Memory, o.Memory)
	set(&r.MemoryReservation, o.MemoryReservation)
	set(&r.MemorySwap, o.MemorySwap)
	set(&r.CPUs, o.CPUs)
	set(&r.CPUShares, o.CPUShares)
	set(&r.CPUSet, o.CPUSet)
	set(&r.CPUSetMems, o.CPUSetMems)
	set(&r.Pids, o.Pids)
	set(&r.BlkioWeight, o.BlkioWeight)
	set(&s.Restart, o.Restart)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// limits says whether more than the restart policy changes.
func (o *UpdateOptions) limits() bool {
	l := *o
	l.Restart = nil
	return l != UpdateOptions{}
}

// updated computes what the record is to say.
func (c *Container) updated(rec *record.Container, o *UpdateOptions) (*shim.Update, error) {
	spec, err := readSpec(c.m.root, c.id)
	if err != nil {
		return nil, err
	}
	o.apply(spec)
	if err := validateLife(spec); err != nil {
		return nil, err
	}
	if rec.AutoRemove && spec.Restart.Policy != "" && spec.Restart.Policy != "no" {
		return nil, fault.Invalid("a container that is removed at its end cannot have the restart policy %s", spec.Restart.Policy)
	}
	u := &shim.Update{Seq: rec.Seq, Restart: record.Restart{Policy: spec.Restart.Policy, Max: spec.Restart.MaxRetries}}
	if !o.limits() {
		return u, nil
	}
	cfg, err := c.m.root.LoadConfig(c.id)
	if err != nil {
		return nil, err
	}
	u.Limits = new(record.Update)
	if u.Limits.Resources, u.Limits.Limits, err = limits(spec, cfg.OCI.Linux.Resources); err != nil {
		return nil, err
	}
	u.Limits.Spec, err = json.Marshal(spec.Resources)
	return u, err
}

// limits compiles the limits of a Spec anew. Everything else of the resources,
// such as device rules, stays.
func limits(spec *Spec, was *specs.LinuxResources) (*specs.LinuxResources, []record.Limit, error) {
	h := host.Look()
	f := &facts{host: hostFacts{cpus: h.CPUs, swapLimits: h.SwapLimits}}
	f.host.online, f.host.nodes = host.Online()
	comp := &compiled{rec: new(record.Container), cfg: &record.Config{OCI: &specs.Spec{Process: new(specs.Process), Linux: new(specs.Linux)}}}
	if err := resources(spec, f, comp); err != nil {
		return nil, nil, err
	}
	now := comp.cfg.OCI.Linux.Resources
	next := *was
	next.Memory, next.CPU, next.Pids, next.BlockIO = now.Memory, now.CPU, now.Pids, now.BlockIO
	return &next, comp.cfg.Limits, nil
}
