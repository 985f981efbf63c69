// Package firewalld has a running firewalld let bridges pass: an accept in a
// packet filter of ours does not save a packet from the reject at the end of
// firewalld's own, which nobody else may write to. It is asked by D-Bus to put
// them into its zone "trusted", for as long as it runs: nothing permanent is
// changed, so nothing stays on a host whose networks were removed.
//
// A host without firewalld costs one stat(2), one with a message bus but no
// firewalld three messages. A bus that does not answer is given up on after
// Limit.
package firewalld

import "time"

// Zone is where bridges go: firewalld's own zone for interfaces of which all
// is accepted. What may reach containers is decided by our filter alone.
const Zone = "trusted"

// Limit is how long one request may take. firewalld answers after some 100 ms,
// and after seconds only while it reloads; Check tells whoever was left out.
const Limit = 3 * time.Second

// Bus is the message bus that firewalld is looked for on. The zero value is
// the system's.
type Bus struct {
	Socket   string        // path; empty: systemSocket
	Patience time.Duration // instead of Limit
}

// systemSocket is where the system's bus listens by the D-Bus specification,
// as every distribution has it since /var/run is a link to /run.
const systemSocket = "/run/dbus/system_bus_socket"

func (b Bus) socket() string {
	if b.Socket == "" {
		return systemSocket
	}
	return b.Socket
}

func (b Bus) limit() time.Duration {
	if b.Patience == 0 {
		return Limit
	}
	return b.Patience
}

// Status is what firewalld thinks of bridges.
type Status struct {
	Running bool
	Zones   map[string]string // bridge -> zone; "": in none
}
