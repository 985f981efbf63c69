package record

import (
	"context"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
)

// Health is a health check, complete: one of Command, TCP and HTTP is set.
type Health struct {
	Command       []string      `json:"command,omitempty"`
	TCP           string        `json:"tcp,omitempty"`  // address
	HTTP          string        `json:"http,omitempty"` // address, with Path
	Path          string        `json:"path,omitempty"`
	Interval      time.Duration `json:"interval"`
	Timeout       time.Duration `json:"timeout"`
	Retries       int           `json:"retries"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval"`
	OnUnhealthy   string        `json:"onUnhealthy,omitempty"` // none, kill, restart, stop
}

// States of Run.Health.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthLog is health.json: the last probes of a run. It is not synced.
type HealthLog struct {
	Version int     `json:"version"`
	Failing int     `json:"failing"` // in a row
	Probes  []Probe `json:"probes,omitempty"`
}

// Probe is one probe. Code -1: it could not be done, or took too long.
type Probe struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Code   int       `json:"code"`
	Output string    `json:"output,omitempty"`
}

// SetHealth records another state of health and logs it, in Docker's words.
func (r *Root) SetHealth(ctx context.Context, c *Container, run *Run, status string) error {
	next := *run
	next.Health = status
	if err := r.putRun(ctx, c, &next, "health_status: "+status); err != nil {
		return err
	}
	*run = next
	return nil
}

// SaveHealth writes the log of probes.
func (r *Root) SaveHealth(id string, log *HealthLog) error {
	log.Version = Version
	return fault.Opaque(atomicfile.WriteJSON(r.Path(id, "health.json"), log, 0o600, false))
}

// LoadHealth reads it; nil when there is none.
func (r *Root) LoadHealth(id string) (*HealthLog, error) {
	return optional[HealthLog](r, id, "health.json")
}
