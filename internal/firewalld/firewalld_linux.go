package firewalld

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/godbus/dbus/v5"
)

// Names of firewalld on the bus (firewalld.dbus(5)).
const (
	service = "org.fedoraproject.FirewallD1"
	object  = "/org/fedoraproject/FirewallD1"
	zones   = service + ".zone"
)

// Trust puts bridges into the trusted zone of a running firewalld. One that
// somebody put into another zone stays there: Check says so. It is no error
// that no firewalld runs, and nothing to do if they are there already.
func (b Bus) Trust(ctx context.Context, bridges ...string) error {
	return b.each(ctx, bridges, "put into zone "+Zone, func(ctx context.Context, fw dbus.BusObject, bridge string) error {
		err := call(ctx, fw, zones+".addInterface", nil, Zone, bridge)
		if is(err, "ALREADY_ENABLED") || is(err, "ZONE_ALREADY_SET") || is(err, "ZONE_CONFLICT") {
			return nil
		}
		return err
	})
}

// Distrust takes bridges out of the trusted zone again, if they are in it.
func (b Bus) Distrust(ctx context.Context, bridges ...string) error {
	return b.each(ctx, bridges, "take out of zone "+Zone, func(ctx context.Context, fw dbus.BusObject, bridge string) error {
		err := call(ctx, fw, zones+".removeInterface", nil, Zone, bridge)
		if is(err, "UNKNOWN_INTERFACE") || is(err, "NOT_ENABLED") || is(err, "ZONE_CONFLICT") {
			return nil
		}
		return err
	})
}

// Status asks whether firewalld runs, and which zones the bridges are in.
func (b Bus) Status(ctx context.Context, bridges ...string) (Status, error) {
	s := Status{Zones: map[string]string{}}
	err := b.connect(ctx, func(ctx context.Context, fw dbus.BusObject) error {
		s.Running = true
		for _, bridge := range bridges {
			var zone string
			if err := call(ctx, fw, zones+".getZoneOfInterface", &zone, bridge); err != nil {
				return fmt.Errorf("firewalld: zone of %s: %w", bridge, err)
			}
			s.Zones[bridge] = zone
		}
		return nil
	})
	return s, err
}

func (b Bus) each(ctx context.Context, bridges []string, doing string, f func(context.Context, dbus.BusObject, string) error) error {
	if len(bridges) == 0 {
		return nil
	}
	return b.connect(ctx, func(ctx context.Context, fw dbus.BusObject) error {
		var errs error
		for _, bridge := range bridges {
			if err := f(ctx, fw, bridge); err != nil {
				errs = errors.Join(errs, fmt.Errorf("firewalld: %s %s: %w", doing, bridge, err))
			}
		}
		return errs
	})
}

// connect calls f if firewalld runs.
func (b Bus) connect(ctx context.Context, f func(context.Context, dbus.BusObject) error) error {
	if _, err := os.Stat(b.socket()); err != nil {
		return nil // no bus, no firewalld
	}
	ctx, cancel := context.WithTimeout(ctx, b.limit())
	defer cancel() // ends the connection, too
	conn, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(b.socket()), dbus.WithContext(ctx))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil // nobody listens: the socket is of a bus that ended
		}
		return b.explain(ctx, err)
	}
	defer conn.Close()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return b.explain(ctx, err)
	}
	if err := conn.Hello(); err != nil {
		return b.explain(ctx, err)
	}
	// Asking first keeps the bus from starting a firewalld that was stopped.
	var running bool
	if err := call(ctx, conn.BusObject(), "org.freedesktop.DBus.NameHasOwner", &running, service); err != nil {
		return b.explain(ctx, err)
	}
	if !running {
		return nil
	}
	return b.explain(ctx, f(ctx, conn.Object(service, object)))
}

func call(ctx context.Context, to dbus.BusObject, method string, result any, args ...any) error {
	c := to.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil || result == nil {
		return c.Err
	}
	return c.Store(result)
}

// is tells firewalld's errors apart: their text begins with a code.
func is(err error, code string) bool {
	var d dbus.Error
	return errors.As(err, &d) && strings.HasPrefix(d.Error(), code)
}

func (b Bus) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fault.Opaque(fmt.Errorf("no answer by way of the message bus at %s within %v", b.socket(), b.limit()))
	}
	return fault.Opaque(fmt.Errorf("message bus at %s: %w", b.socket(), err))
}
