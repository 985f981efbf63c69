package container

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// Health says how to find out whether the container does its work. Its
// supervisor probes, no program is needed. Exactly one of Command, Shell, TCP
// and HTTP is given, or None. Zero values of the rest are Docker's defaults.
type Health struct {
	None bool `json:"none,omitempty"` // no check, though the image has one

	Command []string `json:"command,omitempty"` // run in the container; code 0 is healthy
	Shell   string   `json:"shell,omitempty"`   // the same, by /bin/sh -c
	// TCP is an address that accepts connections, and HTTP a URL that answers
	// with 200 to 399, as the container itself reaches them: "127.0.0.1:5432",
	// "http://127.0.0.1:8080/ready". They need no program in the image.
	TCP  string `json:"tcp,omitempty"`
	HTTP string `json:"http,omitempty"`

	Interval      time.Duration `json:"interval,omitempty"`      // between probes; 0: 30 s
	Timeout       time.Duration `json:"timeout,omitempty"`       // of one probe; 0: 30 s
	Retries       int           `json:"retries,omitempty"`       // failures in a row that make it unhealthy; 0: 3
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // after the start, in which failures do not count
	StartInterval time.Duration `json:"startInterval,omitempty"` // between probes in the start period; 0: 5 s

	// OnUnhealthy is what happens once it is unhealthy: "none" (default), "kill"
	// (its restart policy decides what comes next), "restart" or "stop".
	OnUnhealthy string `json:"onUnhealthy,omitempty"`
}

// HealthInfo is a container's health at a glance.
type HealthInfo struct {
	Status  HealthStatus `json:"status"`
	Failing int          `json:"failing"`       // failures in a row
	Log     []Probe      `json:"log,omitempty"` // the last five probes, the latest last; set by Inspect only
}

// Probe is one probe.
type Probe struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Code   int       `json:"code"`             // 0: healthy; -1: it could not be done, or took too long
	Output string    `json:"output,omitempty"` // its first 4 KiB
}

// HealthStatus is what is known of a container's health.
type HealthStatus string

const (
	Starting  HealthStatus = "starting" // no probe has succeeded yet, nor have too many failed
	Healthy   HealthStatus = "healthy"
	Unhealthy HealthStatus = "unhealthy"
)

// Docker's defaults (moby daemon/health.go).
const (
	healthInterval      = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

// health compiles the check of the Spec, or of the image if it has none.
func health(spec *Spec, img *image.RunConfig) (*record.Health, error) {
	h := spec.Health
	if h == nil {
		if h = imageHealth(img.Healthcheck); h == nil {
			return nil, nil
		}
	}
	given := 0
	for _, is := range []bool{h.None, len(h.Command) > 0, h.Shell != "", h.TCP != "", h.HTTP != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, fault.Invalid("health check: give one of a command, a shell command, a TCP address and an HTTP URL, or none")
	}
	if h.None {
		return nil, nil
	}
	r := &record.Health{Command: h.Command, TCP: h.TCP, Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, OnUnhealthy: h.OnUnhealthy}
	if h.Shell != "" {
		r.Command = []string{"/bin/sh", "-c", h.Shell}
	}
	if err := probeAddress(h, r); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		name      string
		value     *time.Duration
		otherwise time.Duration
	}{{"interval", &r.Interval, healthInterval}, {"timeout", &r.Timeout, healthInterval}, {"start interval", &r.StartInterval, healthStartInterval}, {"start period", &r.StartPeriod, 0}} {
		if *d.value == 0 {
			*d.value = d.otherwise
		}
		if *d.value < 0 || *d.value > 0 && *d.value < time.Millisecond {
			return nil, fault.Invalid("health check: %s %v: give at least 1ms", d.name, *d.value)
		}
	}
	if r.Retries == 0 {
		r.Retries = healthRetries
	}
	if r.Retries < 0 {
		return nil, fault.Invalid("health check: %d retries", r.Retries)
	}
	switch r.OnUnhealthy {
	case "", "none", "kill", "restart", "stop":
	default:
		return nil, fault.Invalid("health check: what happens to an unhealthy container is none, kill, restart or stop, not %q", r.OnUnhealthy)
	}
	if spec.AutoRemove && r.OnUnhealthy == "restart" {
		return nil, fault.Invalid("a container that is removed at its end cannot be restarted when it is unhealthy")
	}
	return r, nil
}

// probeAddress checks the address of a probe that the supervisor makes. It is
// numeric: whose resolver a name would be looked up by is not said.
func probeAddress(h *Health, r *record.Health) error {
	at := h.TCP
	if h.HTTP != "" {
		rest, ok := strings.CutPrefix(h.HTTP, "http://")
		if !ok {
			return fault.Invalid("health check: URL %q: write http://ADDRESS:PORT/PATH", h.HTTP)
		}
		host, path, _ := strings.Cut(rest, "/")
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
		}
		at, r.HTTP, r.Path = host, host, "/"+path
		if strings.ContainsAny(path, " \r\n") {
			return fault.Invalid("health check: URL %q: its path has spaces or line breaks", h.HTTP)
		}
	}
	if at == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(at)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || net.ParseIP(host) == nil && host != "localhost" {
		return fault.Invalid("health check: address %q: give an IP address and a port, such as 127.0.0.1:80", at)
	}
	if host == "localhost" {
		at = net.JoinHostPort("127.0.0.1", port)
	}
	if h.HTTP != "" {
		r.HTTP = at
	} else {
		r.TCP = at
	}
	return nil
}

// imageHealth is an image's HEALTHCHECK; nil if it has none.
func imageHealth(h *image.Healthcheck) *Health {
	if h == nil || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	out := &Health{Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	switch h.Test[0] {
	case "CMD-SHELL":
		out.Shell = strings.Join(h.Test[1:], " ")
	case "CMD":
		out.Command = h.Test[1:]
	default:
		out.Command = h.Test
	}
	return out
}

func newHealth(run *record.Run) *HealthInfo {
	if run == nil || run.Health == "" {
		return nil
	}
	return &HealthInfo{Status: HealthStatus(run.Health)}
}

// readHealth adds what only Inspect shows.
func (c *Container) readHealth(i *Info) error {
	log, err := c.m.root.LoadHealth(c.id)
	if err != nil || log == nil {
		return err
	}
	i.Health.Failing = log.Failing
	for _, p := range log.Probes {
		i.Health.Log = append(i.Health.Log, Probe(p))
	}
	return nil
}

// IsHealthy is a condition: the container's health check has succeeded. One
// that becomes unhealthy, or has no check, is an error.
func IsHealthy() Condition { return isHealthy{} }

type isHealthy struct{}

func (isHealthy) String() string { return "healthy" }

func (isHealthy) wait(ctx context.Context, c *Container, why *reason) error {
	return poll(ctx, why, func() error {
		i, err := c.Inspect(ctx)
		switch {
		case err != nil:
			return err
		case i.Pid == 0:
			return ErrNotRunning
		case i.Health == nil:
			return &impossible{fault.Invalid("it has no health check")}
		case i.Health.Status == Healthy:
			return nil
		}
		last := ""
		if n := len(i.Health.Log); n > 0 {
			last = ": " + strings.TrimSpace(i.Health.Log[n-1].Output)
		}
		err = fmt.Errorf("it is %s after %d failures%s", i.Health.Status, i.Health.Failing, last)
		if i.Health.Status == Unhealthy {
			return &impossible{err}
		}
		return err
	})
}
