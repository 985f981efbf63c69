// Package fakebus is a message bus with a firewalld on it, as far as package
// firewalld talks to them, for tests.
package fakebus

import (
	"bufio"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/firewalld"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/godbus/dbus/v5"
)

// Bus listens until the test ends.
type Bus struct {
	firewalld.Bus

	mu     sync.Mutex
	absent bool              // nobody has firewalld's name
	hung   bool              // nothing is answered
	zones  map[string]string // interface -> zone
	calls  []string
}

// New starts a bus on which firewalld runs.
func New(t testing.TB) *Bus {
	t.Helper()
	b := &Bus{zones: map[string]string{}}
	b.Socket = filepath.Join(testenv.Dir(t), "bus")
	l, err := net.Listen("unix", b.Socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

// Stop has firewalld gone from the bus, or back with nothing but its own zones.
func (b *Bus) Stop(absent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.absent, b.zones = absent, map[string]string{}
}

// Hang has the bus answer nothing any more.
func (b *Bus) Hang() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hung = true
}

// Set puts an interface into a zone, as an administrator does; "" takes it out.
func (b *Bus) Set(iface, zone string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.zones[iface] = zone; zone == "" {
		delete(b.zones, iface)
	}
}

// Zone is where an interface is.
func (b *Bus) Zone(iface string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.zones[iface]
}

// Calls are the methods called since the last time, without those of the bus.
func (b *Bus) Calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// serve speaks the protocol of the D-Bus specification: lines first, then
// messages.
func (b *Bus) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for begun := false; !begun; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		b.mu.Lock()
		hung := b.hung
		b.mu.Unlock()
		switch line = strings.Trim(line, "\x00\r\n"); {
		case hung:
			continue
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			c.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		case strings.HasPrefix(line, "AUTH"):
			c.Write([]byte("REJECTED EXTERNAL\r\n"))
		case line == "BEGIN":
			begun = true
		default:
			c.Write([]byte("ERROR\r\n"))
		}
	}
	for {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		if reply := b.answer(m); reply != nil && reply.EncodeTo(c, binary.LittleEndian) != nil {
			return
		}
	}
}

func (b *Bus) answer(m *dbus.Message) *dbus.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hung || m.Type != dbus.TypeMethodCall {
		return nil
	}
	method, _ := m.Headers[dbus.FieldMember].Value().(string)
	var args []string
	for _, v := range m.Body {
		s, _ := v.(string)
		args = append(args, s)
	}
	if owner, _ := m.Headers[dbus.FieldDestination].Value().(string); owner == "org.freedesktop.DBus" {
		return b.ofBus(m, method)
	}
	b.calls = append(b.calls, method+" "+strings.Join(args, " "))
	iface := args[len(args)-1]
	switch have := b.zones[iface]; {
	case method == "getZoneOfInterface":
		return reply(m, have)
	case method == "addInterface" && have == args[0]:
		return exception(m, "ZONE_ALREADY_SET: '"+iface+"' already bound to '"+have+"'")
	case method == "addInterface" && have != "", method == "removeInterface" && have != args[0] && have != "":
		return exception(m, "ZONE_CONFLICT: '"+iface+"' already bound to '"+have+"'")
	case method == "addInterface":
		b.zones[iface] = args[0]
		return reply(m, args[0])
	case method == "removeInterface" && have == "":
		return exception(m, "UNKNOWN_INTERFACE: '"+iface+"' is not in any zone")
	case method == "removeInterface":
		delete(b.zones, iface)
		return reply(m, args[0])
	}
	return exception(m, "INVALID_"+method)
}

func (b *Bus) ofBus(m *dbus.Message, method string) *dbus.Message {
	switch method {
	case "Hello":
		return reply(m, ":1.7")
	case "NameHasOwner":
		return reply(m, !b.absent)
	}
	return exception(m, "unknown method "+method)
}

func reply(to *dbus.Message, value any) *dbus.Message {
	return answer(to, dbus.TypeMethodReply, value, nil)
}

func exception(to *dbus.Message, text string) *dbus.Message {
	return answer(to, dbus.TypeError, text, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldErrorName: dbus.MakeVariant("org.fedoraproject.FirewallD1.Exception")})
}

func answer(to *dbus.Message, typ dbus.Type, value any, headers map[dbus.HeaderField]dbus.Variant) *dbus.Message {
	m := &dbus.Message{Type: typ, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
		dbus.FieldSender:      dbus.MakeVariant("org.freedesktop.DBus"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(value)),
	}, Body: []any{value}}
	for k, v := range headers {
		m.Headers[k] = v
	}
	return m
}
