package container

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"runtime"
	"time"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
)

// Stats is what a running container used until Time. Counters begin with the
// container's run.
type Stats struct {
	Time   time.Time   `json:"time"`
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	CPU    CPUStats    `json:"cpu"`
	Memory MemoryStats `json:"memory"`
	Pids   PidsStats   `json:"pids"`
	Block  BlockStats  `json:"block"`

	// Networks are the container's interfaces, but for lo, as it sees them:
	// what it received and sent. One that shares another container's network
	// has that one's; with the host's network, or none, there are none.
	Networks []NetworkStats `json:"networks,omitempty"`
}

// CPUStats are processor time, in nanoseconds in JSON.
type CPUStats struct {
	Usage  time.Duration `json:"usage"` // of all processors together
	User   time.Duration `json:"user"`
	System time.Duration `json:"system"`
	// Percent of one processor that was used since the previous sample; in the
	// first, since the run began. Two busy processors are 200.
	Percent       float64       `json:"percent"`
	Online        int           `json:"online"` // processors of the machine
	Periods       uint64        `json:"periods,omitempty"`
	Throttled     uint64        `json:"throttled,omitempty"` // periods in which the limit held it up
	ThrottledTime time.Duration `json:"throttledTime,omitempty"`
}

// MemoryStats are bytes.
type MemoryStats struct {
	// Usage is what Docker shows: without the part of the page cache that the
	// kernel would take back first.
	Usage uint64 `json:"usage"`
	Total uint64 `json:"total"`         // with all of the page cache
	Max   uint64 `json:"max,omitempty"` // the highest Total, where the kernel tells
	Limit uint64 `json:"limit"`         // the machine's memory if there is none
}

// Percent is how much of the limit is used.
func (m MemoryStats) Percent() float64 {
	if m.Limit == 0 {
		return 0
	}
	return float64(m.Usage) / float64(m.Limit) * 100
}

// PidsStats count processes and threads.
type PidsStats struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit,omitempty"` // 0: none
}

// BlockStats are what went to and from block devices; the page cache answers
// without them.
type BlockStats struct {
	ReadBytes  uint64 `json:"readBytes"`
	WriteBytes uint64 `json:"writeBytes"`
	ReadOps    uint64 `json:"readOps"`
	WriteOps   uint64 `json:"writeOps"`
}

// NetworkStats are the counters of one interface.
type NetworkStats struct {
	Interface string `json:"interface"`
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	RxErrors  uint64 `json:"rxErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxErrors  uint64 `json:"txErrors"`
	TxDropped uint64 `json:"txDropped"`
}

// StatsOptions tune Stats.
type StatsOptions struct {
	Once     bool          // one sample, at once
	Interval time.Duration // between samples; 0: one second
}

// Stats yields what the running container uses, now and at each interval,
// until it ends: then the sequence does too. Between two runs of its restart
// policy there are no samples. A container that does not run is ErrNotRunning;
// when ctx ends the last element is its error.
func (c *Container) Stats(ctx context.Context, opts *StatsOptions) iter.Seq2[Stats, error] {
	if opts == nil {
		opts = &StatsOptions{}
	}
	interval := opts.Interval
	if interval <= 0 {
		interval = time.Second
	}
	return func(yield func(Stats, error) bool) {
		var last Stats
		for first := true; ; first = false {
			s, err := c.sample(ctx, &last)
			switch {
			case err != nil && !first && (errors.Is(err, ErrNotRunning) || errors.Is(err, fs.ErrNotExist)):
				return
			case err != nil:
				yield(Stats{}, c.fail("stats", err))
				return
			case s != nil:
				if last = *s; !yield(last, nil) {
					return
				}
			}
			if opts.Once {
				return
			}
			select {
			case <-ctx.Done():
				yield(Stats{}, ctx.Err())
				return
			case <-time.After(interval):
			}
		}
	}
}

// sample is nil between two runs.
func (c *Container) sample(ctx context.Context, last *Stats) (*Stats, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	snap, err := recovery.Judge(ctx, c.m.root, c.id)
	if err != nil {
		return nil, err
	}
	switch {
	case snap.Status == record.Restarting:
		return nil, nil
	case snap.Run == nil || snap.Run.Pid == 0:
		return nil, ErrNotRunning
	}
	g, err := cgroup.Stat(snap.Cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning // it has just ended
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	s := &Stats{Time: time.Now(), ID: snap.ID, Name: snap.Name}
	s.CPU = CPUStats{Usage: g.CPU, User: g.User, System: g.System, Online: runtime.NumCPU(),
		Periods: g.Periods, Throttled: g.Throttled, ThrottledTime: g.ThrottledTime}
	since, used := snap.Run.Started, g.CPU
	if !last.Time.IsZero() && g.CPU >= last.CPU.Usage { // less: another run
		since, used = last.Time, g.CPU-last.CPU.Usage
	}
	if d := s.Time.Sub(since); d > 0 {
		s.CPU.Percent = float64(used) / float64(d) * 100
	}
	s.Memory = MemoryStats{Usage: g.Memory - min(g.Memory, g.InactiveFile), Total: g.Memory, Max: g.MemoryMax, Limit: g.MemoryLimit}
	if total := proc.TotalMemory(); total > 0 {
		s.Memory.Limit = min(s.Memory.Limit, total)
	}
	s.Pids = PidsStats{Current: g.Pids, Limit: g.PidsLimit}
	s.Block = BlockStats{ReadBytes: g.ReadBytes, WriteBytes: g.WriteBytes, ReadOps: g.ReadOps, WriteOps: g.WriteOps}
	s.Networks = traffic(snap)
	return s, nil
}

// traffic asks the kernel as the container's first process sees it. Of one
// that has just ended there is nothing to tell.
func traffic(s *record.Snapshot) []NetworkStats {
	if s.Network == "host" {
		return nil
	}
	all, err := proc.ReadTraffic(s.Run.Pid)
	if err != nil || !proc.Alive(s.Run.Pid, s.Run.PidStart) {
		return nil
	}
	out := make([]NetworkStats, 0, len(all))
	for _, t := range all {
		out = append(out, NetworkStats{t.Interface, t.RxBytes, t.RxPackets, t.RxErrors, t.RxDropped, t.TxBytes, t.TxPackets, t.TxErrors, t.TxDropped})
	}
	return out
}
