package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kinds of contenders: like is compared with like.
const (
	api     = "API"
	command = "command"
)

// contender is one way to do what a row measures.
type contender struct {
	name, kind string
	before     func(ctx context.Context) error                  // not measured; may be nil
	do         func(ctx context.Context) (time.Duration, error) // one sample
	after      func(ctx context.Context) error                  // not measured; may be nil
	undo       func(ctx context.Context)                        // after a failure; may be nil
}

// timed makes a sample of what has no clock of its own.
func timed(f func(ctx context.Context) error) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		err := f(ctx)
		return time.Since(begin), err
	}
}

// series is what one contender did. Samples are in the unit of its result.
type series struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Samples []float64 `json:"samples"`
	Error   string    `json:"error,omitempty"`
}

func (s *series) median() float64 { return quantile(s.Samples, 0.5) }

// quantile interpolates between the samples next to q.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// compare runs the contenders n times each, interleaved, after one round that
// does not count. Their order is another one in each round, the same in each
// run of the benchmark: what one leaves to the next falls on all. A contender
// that fails is out, and its error stands in the table.
func (b *bench) compare(ctx context.Context, title string, n int, contenders []contender) *result {
	r := &result{Title: title, Unit: "ms", Load: loadAverage(), Series: make([]series, len(contenders))}
	for i, c := range contenders {
		r.Series[i] = series{Name: c.name, Kind: c.kind}
	}
	b.say("%s: %d rounds of %d", title, n, len(contenders))
	for round := -1; round < n; round++ {
		for _, at := range rand.New(rand.NewPCG(uint64(round+1), 0)).Perm(len(contenders)) {
			s := &r.Series[at]
			if s.Error != "" || ctx.Err() != nil {
				continue
			}
			took, err := b.sample(ctx, &contenders[at])
			if err != nil {
				s.Error = err.Error()
				b.say("  %s: %v", s.Name, err)
			} else if round >= 0 {
				s.Samples = append(s.Samples, took.Seconds()*1e3)
			}
		}
		b.reap()
	}
	return r
}

// sampleLimit is far above what any sample takes: it ends what hangs.
const sampleLimit = 3 * time.Minute

func (b *bench) sample(ctx context.Context, c *contender) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleLimit)
	defer cancel()
	defer func() {
		if err != nil && c.undo != nil {
			c.undo(context.WithoutCancel(ctx))
		}
	}()
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return 0, fmt.Errorf("before: %w", err)
		}
	}
	if took, err = c.do(ctx); err != nil {
		return 0, err
	}
	if c.after != nil {
		if err := c.after(ctx); err != nil {
			return 0, fmt.Errorf("after: %w", err)
		}
	}
	return took, nil
}
