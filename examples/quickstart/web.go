package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/amphora-go/amphora/container"
)

// limits are what the containers here may use.
var limits = container.Resources{
	Memory: 64 << 20, MemorySwap: 64 << 20, // bytes; both the same: no swap
	CPUs: 0.5,
	Pids: 20, // processes and threads
}

// start creates the container and starts it. It would go on if this program
// ended; see CreateOptions.Owned for the contrary.
func (d *demo) start(ctx context.Context) (err error) {
	d.web, err = d.eng.Containers().Create(ctx, &container.Spec{
		Name:      "web",
		Image:     "hello",
		Resources: limits,
		Security:  container.Security{ReadOnly: true, NoNewPrivileges: true, CapDrop: []string{"ALL"}},
	}, nil)
	if err != nil {
		return err
	}
	if err := d.web.Start(ctx); err != nil {
		return err
	}
	info, err := d.web.Inspect(ctx)
	if err != nil {
		return err
	}
	d.note("container", "%s (%.12s)", info.Name, info.ID)
	d.note("status", "%s, process %d of this machine", info.Status, info.Pid)
	d.note("limits", "64 MB of memory, half a processor, 20 threads")
	d.note("security", "Docker's defaults, and: no capabilities, read-only")
	return nil
}

// followLog reads the log as it grows, until the server says that it listens.
func (d *demo) followLog(ctx context.Context) error {
	for entry, err := range d.web.Logs(ctx, &container.LogOptions{Follow: true}) {
		if err != nil {
			return err
		}
		d.note(entry.Stream, "%s", strings.TrimSpace(string(entry.Line)))
		if strings.Contains(string(entry.Line), "listening") {
			return nil
		}
	}
	return fmt.Errorf("the server ended before it listened")
}

// talk reaches the server's loopback address: Dial connects from inside the
// container, which has no network and publishes no port.
func (d *demo) talk(ctx context.Context) error {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return d.web.Dial(ctx, network, addr)
		},
	}}
	const url = "http://127.0.0.1:8080/?name=world"
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	d.note("asked", "%s, through Container.Dial", url)
	d.note("answer", "%s: %s", resp.Status, body)
	return nil
}

// exec runs one more process in the container, used as an os/exec.Cmd.
func (d *demo) exec(ctx context.Context) error {
	out, err := d.web.Command(ctx, "/server", "whoami").Output()
	if err != nil {
		return err
	}
	d.note("command", "/server whoami")
	d.note("output", "%s", strings.TrimSpace(string(out)))
	return nil
}

// stop asks the container to end, which has ten seconds to do so.
func (d *demo) stop(ctx context.Context) error {
	if err := d.web.Stop(ctx, nil); err != nil {
		return err
	}
	exit, err := d.web.Wait(ctx, container.NotRunning)
	if err != nil {
		return err
	}
	for entry, err := range d.web.Logs(ctx, &container.LogOptions{Tail: 1}) {
		if err != nil {
			return err
		}
		d.note("last words", "%s", strings.TrimSpace(string(entry.Line)))
	}
	d.note("exit code", "%d, after %s", exit.Code, took(exit.Finished.Sub(exit.Started)))
	return nil
}

// cleanUp removes what was made. Nothing is left to do the second time.
func (d *demo) cleanUp(ctx context.Context) error {
	if d.web != nil {
		if err := d.web.Remove(ctx, &container.RemoveOptions{Force: true, Volumes: true}); err != nil {
			return err
		}
		d.note("container", "removed")
		d.web = nil
	}
	if d.image != nil {
		if _, err := d.eng.Images().Remove(ctx, d.image.ID(), nil); err != nil {
			return err
		}
		d.note("image", "removed")
		d.image = nil
	}
	return nil
}
