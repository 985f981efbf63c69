package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// scopeLimit is how long systemd may take to make a scope.
const scopeLimit = 10 * time.Second

// underSystemd reports whether systemd manages the groups of this machine:
// then a group that it was not asked for may be emptied or removed by it.
func underSystemd() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// scopeOf is the group of a Root's scope: one unit for all of its containers,
// delegated to us.
func scopeOf(name string) string { return path.Join("/system.slice", name+".scope") }

// ensureScope asks systemd for the scope with this process in it. A scope needs
// a process to begin with, lives while it has any, and goes with the last.
func ensureScope(group string) error {
	name, ok := strings.CutSuffix(path.Base(group), ".scope")
	if !ok || !underSystemd() {
		return nil
	}
	ds, err := dirs(group)
	if err != nil {
		return err
	}
	if _, err := os.Stat(ds[0]); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), scopeLimit)
	defer cancel()
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd for the scope %s: %w", name, err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	properties := []dbus.Property{
		dbus.PropDescription("containers of amphora"),
		dbus.PropPids(uint32(os.Getpid())),
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}
	if _, err := conn.StartTransientUnitContext(ctx, name+".scope", "fail", properties, done); err != nil {
		var de godbus.Error
		if errors.As(err, &de) && de.Name == "org.freedesktop.systemd1.UnitExists" {
			return nil // another supervisor was first
		}
		return fmt.Errorf("ask systemd for the scope %s: %w", name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd did not make the scope %s: %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("systemd did not make the scope %s within %v", name, scopeLimit)
	}
}
