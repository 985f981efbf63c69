package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
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
// delegated to us. Process 1 is in init.scope at the top of what systemd
// manages.
func scopeOf(name string) (string, error) {
	b, err := os.ReadFile("/proc/1/cgroup")
	if err != nil {
		return "", err
	}
	top := "/"
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			top = strings.TrimSuffix(p, "/init.scope")
		}
	}
	return path.Join("/", top, "system.slice", name+".scope"), nil
}

// scoped reports whether group lies right in a scope of ours.
func scoped(group string) bool {
	name := path.Base(path.Dir(group))
	return strings.HasPrefix(name, "amphora-") && strings.HasSuffix(name, ".scope") && underSystemd()
}

// enterScope moves this process into group, whose parent is a scope. Systemd
// removes a scope when its last process ends, which may be now: then there is
// another.
func enterScope(root, group string, inside bool) error {
	scope := filepath.Join(root, path.Dir(group))
	ctx, cancel := context.WithTimeout(context.Background(), scopeLimit)
	defer cancel()
	for !inside || !ready(scope) {
		if err := makeScope(ctx, scope); err != nil {
			return err
		}
		err := join(filepath.Join(root, group), os.Mkdir)
		if inside = err == nil; inside {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) || ctx.Err() != nil {
			return err
		}
	}
	return vacant(ctx, scope)
}

// ready reports whether systemd has made the scope, left it to us, and put the
// process into it that asked. It marks what it delegates (CGROUP_DELEGATION.md
// of systemd); a directory alone may be the rest of an earlier scope, and one
// without processes is about to be removed, or not finished.
func ready(scope string) bool {
	var mark [8]byte
	if _, err := unix.Getxattr(scope, "trusted.delegate", mark[:]); err != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join(scope, "cgroup.events"))
	return err == nil && strings.Contains(string(b), "populated 1")
}

// vacant waits until whoever asked for the scope has left its top for the
// group of supervisors: until then no controllers can be enabled in it.
func vacant(ctx context.Context, scope string) error {
	for {
		b, err := os.ReadFile(filepath.Join(scope, "cgroup.procs"))
		if err != nil || len(b) == 0 {
			return err
		}
		if err := nap(ctx); err != nil {
			return fmt.Errorf("the control group %s is occupied by the processes %s: move them elsewhere", scope, strings.Join(strings.Fields(string(b)), ", "))
		}
	}
}

func nap(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}

// makeScope returns once the scope is there, made for this process or for
// another supervisor's.
func makeScope(ctx context.Context, scope string) error {
	if ready(scope) {
		return nil
	}
	name := path.Base(scope)
	conn, err := dbus.NewWithContext(ctx) // the bus, or systemd's own socket where there is none
	if err != nil {
		return fmt.Errorf("ask systemd for the scope %s: %w", name, err)
	}
	defer conn.Close()
	for !ready(scope) {
		err := askScope(ctx, conn, name)
		var de godbus.Error
		if errors.As(err, &de) && de.Name == "org.freedesktop.systemd1.UnitExists" {
			err = nap(ctx) // another supervisor was first, or it is just going
		}
		if err != nil {
			return fmt.Errorf("ask systemd for the scope %s: %w", name, err)
		}
	}
	return nil
}

// askScope asks for the scope with this process in it. A scope needs a process
// to begin with, lives while it has any, and goes with the last.
func askScope(ctx context.Context, conn *dbus.Conn, name string) error {
	done := make(chan string, 1)
	properties := []dbus.Property{
		dbus.PropDescription("Containers of amphora"),
		dbus.PropSlice("system.slice"),
		dbus.PropPids(uint32(os.Getpid())),
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		{Name: "TasksMax", Value: godbus.MakeVariant(uint64(math.MaxUint64))}, // each container has a limit of its own
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}
	if _, err := conn.StartTransientUnitContext(ctx, name, "fail", properties, done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return errors.New("the job's result is " + result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
