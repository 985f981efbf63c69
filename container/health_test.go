package container

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/network"
)

// often is a check that does not keep a test waiting.
func often(h Health) *Health {
	h.Interval, h.StartInterval, h.Retries = 10*time.Millisecond, 10*time.Millisecond, 2
	return &h
}

func TestHealth(t *testing.T) {
	b := newBench(t)
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	for name, h := range map[string]Health{
		"command": {Command: []string{"test", "-e", "/ok"}}, "shell": {Shell: "echo looking; test -e /ok"},
		"tcp": {TCP: "127.0.0.1:80"}, "http": {HTTP: "http://localhost:80/x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.start(t, Spec{Health: often(h), Networks: []network.Endpoint{{Network: network.None}}}, "sh", "-c", "sleep 0.05; touch /ok; http :80 fine")
			if i := inspect(t, c); i.Health == nil {
				t.Fatal("no health")
			}
			if err := c.WaitFor(ctx, Listening("80")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "health", func() bool { i := inspect(t, c); return i.Health != nil && i.Health.Status == Healthy })
			if err := c.WaitFor(ctx, IsHealthy()); err != nil {
				t.Error(err)
			}
			i := inspect(t, c)
			if len(i.Health.Log) == 0 || i.Health.Failing != 0 {
				t.Errorf("%+v", i.Health)
			}
			if err := c.Stop(ctx, &StopOptions{Timeout: time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			if i := inspect(t, c); i.Health != nil {
				t.Errorf("a container at rest is %s", i.Health.Status)
			}
		})
	}
}

func TestUnhealthy(t *testing.T) {
	b := newBench(t)
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	sick := Health{Shell: "echo out of order; exit 1"}
	c := b.start(t, Spec{Health: often(sick)}, "pause")
	eventually(t, "illness", func() bool { i := inspect(t, c); return i.Health.Status == Unhealthy && i.Health.Failing >= 2 })
	err := c.WaitFor(ctx, IsHealthy())
	says(t, err, "unhealthy", "out of order")
	events := 0
	for ev, err := range b.root.Log.Read(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.ID == c.ID() && ev.Action == "health_status: unhealthy" {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d events", events)
	}

	slow := often(Health{Command: []string{"sleep", "1000"}})
	slow.Timeout = 20 * time.Millisecond
	c = b.start(t, Spec{Health: slow}, "pause")
	eventually(t, "slowness", func() bool { i := inspect(t, c); return i.Health.Status == Unhealthy })
	if log := inspect(t, c).Health.Log; !strings.Contains(log[0].Output, "longer than 20ms") || log[0].Code != -1 {
		t.Errorf("%+v", log)
	}

	for action, want := range map[string]func(*Info) bool{
		"stop":    func(i *Info) bool { return i.Status == Exited },
		"kill":    func(i *Info) bool { return i.Status == Exited && i.Exit.Signal == 9 },
		"restart": func(i *Info) bool { return i.Restarts > 0 && i.Status == Running },
	} {
		h := sick
		h.OnUnhealthy = action
		c := b.start(t, Spec{Health: often(h)}, "pause")
		eventually(t, action, func() bool { return want(inspect(t, c)) })
	}

	// While it starts failures do not count.
	early := often(sick)
	early.StartPeriod = time.Hour
	c = b.start(t, Spec{Health: early}, "pause")
	eventually(t, "probes", func() bool { i := inspect(t, c); return len(i.Health.Log) == 5 })
	if i := inspect(t, c); i.Health.Status != Starting || i.Health.Failing != 0 {
		t.Errorf("%+v", i.Health)
	}
}

func TestHealthOfImages(t *testing.T) {
	b := newBench(t, `HEALTHCHECK --interval=10ms --retries=1 CMD ["true"]`)
	c := b.start(t, Spec{}, "pause")
	eventually(t, "the image's check", func() bool { return inspect(t, c).Health.Status == Healthy })
	c = b.start(t, Spec{Health: &Health{None: true}}, "pause")
	if i := inspect(t, c); i.Health != nil {
		t.Errorf("%+v", i.Health)
	}
	is(t, c.WaitFor(t.Context(), IsHealthy()), fs.ErrInvalid)
	for text, h := range map[string]Health{
		"give one":         {},
		"a shell command,": {Shell: "x", TCP: "127.0.0.1:1"},
		"IP address":       {TCP: "db:5432"},
		"write http://":    {HTTP: "https://127.0.0.1/"},
		"line breaks":      {HTTP: "http://127.0.0.1/a b"},
		"retries":          {Shell: "x", Retries: -1},
		"interval":         {Shell: "x", Interval: 1},
		"explode":          {Shell: "x", OnUnhealthy: "explode"},
	} {
		_, err := b.try(t, Spec{Health: &h}, "true")
		is(t, err, fs.ErrInvalid)
		says(t, err, text)
	}
	for _, test := range [][]string{nil, {"NONE"}} {
		if h := imageHealth(&image.Healthcheck{Test: test}); h != nil {
			t.Errorf("%v: %+v", test, h)
		}
	}
	if _, err := os.Stat(b.root.Path(c.ID(), "health.json")); err == nil {
		t.Error("probes of a container without a check")
	}
}

// Who stands still for a commit cannot answer, and is not ill.
func TestHealthWhileHeld(t *testing.T) {
	b := newBench(t)
	for name, h := range map[string]Health{"shell": {Shell: "true"}, "http": {HTTP: "http://localhost:80/"}} {
		t.Run(name, func(t *testing.T) {
			h.Timeout = 500 * time.Millisecond
			h := often(h)
			h.Retries = 1
			c := b.start(t, Spec{Health: h, Networks: []network.Endpoint{{Network: network.None}}}, "http", ":80", "fine")
			eventually(t, "health", func() bool { i := inspect(t, c); return i.Health != nil && i.Health.Status == Healthy })
			for range 2 {
				held, err := c.freeze(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(h.Timeout * 3 / 2) // a probe that was under way fails
				if i := inspect(t, c); i.Health.Status != Healthy {
					t.Errorf("held: %+v", i.Health)
				}
				held.Close()
				time.Sleep(20 * time.Millisecond) // a command's end is seen now
				for _, p := range inspect(t, c).Health.Log {
					if p.Code != 0 {
						t.Errorf("it counted %+v", p)
					}
				}
			}
		})
	}
}
