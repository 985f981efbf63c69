package main

import (
	"strconv"
	"time"

	"github.com/amphora-go/amphora/container"
)

// defineHealth adds the flags of health checks. The last two are our own: the
// supervisor probes, and no program in the image is needed.
func (s *specFlags) defineHealth(f *flags) {
	set := func(change func(h *container.Health, v string) error) func(string) error {
		return func(v string) error {
			if s.Health == nil {
				s.Health = &container.Health{}
			}
			return change(s.Health, v)
		}
	}
	period := func(field func(*container.Health) *time.Duration) func(string) error {
		return set(func(h *container.Health, v string) (err error) {
			*field(h), err = time.ParseDuration(v)
			return err
		})
	}
	each(f, "health-cmd", "`Command` to run to check health", set(func(h *container.Health, v string) error { h.Shell = v; return nil }))
	each(f, "health-interval", "Time between running the check (`duration`; default 30s)", period(func(h *container.Health) *time.Duration { return &h.Interval }))
	each(f, "health-timeout", "Maximum time to allow one check to run (`duration`; default 30s)", period(func(h *container.Health) *time.Duration { return &h.Timeout }))
	each(f, "health-start-period", "Start period for the container to initialize before failures count (`duration`)", period(func(h *container.Health) *time.Duration { return &h.StartPeriod }))
	each(f, "health-start-interval", "Time between checks during the start period (`duration`; default 5s)", period(func(h *container.Health) *time.Duration { return &h.StartInterval }))
	each(f, "health-retries", "Consecutive `failures` needed to report unhealthy (default 3)", set(func(h *container.Health, v string) (err error) {
		h.Retries, err = strconv.Atoi(v)
		return err
	}))
	each(f, "health-tcp", "`Address` in the container that must accept connections", set(func(h *container.Health, v string) error { h.TCP = v; return nil }))
	each(f, "health-http", "`URL` in the container that must answer with 200 to 399", set(func(h *container.Health, v string) error { h.HTTP = v; return nil }))
	each(f, "health-on-failure", "`Action` once the container is unhealthy: none, kill, restart, stop", set(func(h *container.Health, v string) error { h.OnUnhealthy = v; return nil }))
	var none bool
	f.bool(&none, "no-healthcheck", "Disable any container-specified HEALTHCHECK")
	s.noHealth = &none
}
