package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/network"
)

// nets is a bench with networks "app" and "back", of both families.
type nets struct {
	*bench
	*network.Manager
}

func newNets(t *testing.T, specs ...network.Spec) *nets {
	t.Helper()
	b := newBench(t)
	n := &nets{b, network.New(b.root)}
	if len(specs) == 0 {
		specs = []network.Spec{{Name: "app", IPv6: true}, {Name: "back"}}
	}
	for _, s := range specs {
		if _, err := n.Manager.Create(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Manager.Remove(context.Background(), s.Name); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
	}
	return n
}

// box starts a container on networks.
func (n *nets) box(t *testing.T, name string, names ...string) *Container {
	t.Helper()
	return n.bench.start(t, Spec{Name: name, Networks: on(names...)}, "pause")
}

func on(names ...string) (all []network.Endpoint) {
	for _, name := range names {
		all = append(all, network.Endpoint{Network: name})
	}
	return all
}

// addr is a container's address on a network, of the given family.
func addr(t *testing.T, c *Container, at string, v6 bool) netip.Addr {
	t.Helper()
	for _, a := range inspect(t, c).Networks {
		for _, p := range a.Addresses {
			if a.Network == at && p.Addr().Is6() == v6 {
				return p.Addr()
			}
		}
	}
	t.Fatalf("no address on %s: %+v", at, inspect(t, c).Networks)
	return netip.Addr{}
}

// serving starts an applet in the container and waits until it listens.
func serving(t *testing.T, c *Container, applet, at string, more ...string) {
	t.Helper()
	out := new(collector)
	e := c.Command(t.Context(), append([]string{applet, at}, more...)...)
	e.Stdout, e.Stderr = out, out
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	out.await(t, applet+" on")
}

// lookup returns what a name resolves to in the container; nil if to nothing.
func lookup(t *testing.T, c *Container, name string) []string {
	t.Helper()
	out, err := c.Command(t.Context(), "nslookup", name).Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}

func TestContainersFindEachOther(t *testing.T) {
	n := newNets(t)
	db := n.bench.start(t, Spec{Name: "db", Hostname: "dbhost", Networks: []network.Endpoint{{Network: "app", Aliases: []string{"store", "shared"}}}}, "pause")
	web := n.box(t, "web", "app", "back")
	cache := n.bench.start(t, Spec{Name: "cache", Networks: []network.Endpoint{{Network: "app", Aliases: []string{"shared"}}}}, "pause")
	far := n.box(t, "far", "back")
	v4, v6 := addr(t, db, "app", false).String(), addr(t, db, "app", true).String()
	for _, name := range []string{"db", "DB", "dbhost", "store", db.ID()[:12], "db.app"} {
		got := lookup(t, web, name)
		if !slices.Contains(got, v4) || !slices.Contains(got, v6) {
			t.Errorf("%s resolves to %v, want %s and %s", name, got, v4, v6)
		}
	}
	if got := lookup(t, web, "shared"); !slices.Contains(got, v4) || !slices.Contains(got, addr(t, cache, "app", false).String()) {
		t.Errorf("shared resolves to %v, want both containers", got)
	}
	if got := lookup(t, web, v4); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "db") }) {
		t.Errorf("%s is called %v", v4, got)
	}
	if got := lookup(t, far, "db"); got != nil {
		t.Errorf("a container of another network resolves db to %v", got)
	}
	serving(t, db, "http", ":80", "from the database")
	for _, at := range []string{"db:80", v4 + ":80", "[" + v6 + "]:80"} {
		if got := execOutput(t, web, "get", at); got != "from the database" {
			t.Errorf("get %s: %q", at, got)
		}
	}
	if out, err := far.Command(t.Context(), "get", v4+":80").CombinedOutput(); err == nil {
		t.Errorf("networks are not isolated: %s", out)
	}
	hosts := execOutput(t, web, "cat", "/etc/hosts")
	for _, at := range []string{"app", "back"} {
		if want := addr(t, web, at, false).String() + "\t" + web.ID()[:12]; !strings.Contains(hosts, want) {
			t.Errorf("/etc/hosts lacks %q: %q", want, hosts)
		}
	}
	// The names of the default network are nobody's.
	plain := n.bench.start(t, Spec{Name: "plain"}, "pause")
	other := n.bench.start(t, Spec{Name: "other"}, "pause")
	if got := lookup(t, other, "plain"); got != nil {
		t.Errorf("the default network resolves names: %v", got)
	}
	if err := plain.Rename(t.Context(), "renamed"); err != nil {
		t.Fatal(err)
	}
	if err := db.Rename(t.Context(), "database"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new name", func() bool { return slices.Contains(lookup(t, web, "database"), v4) })
	if got := lookup(t, web, "db"); got != nil {
		t.Errorf("the old name resolves to %v", got)
	}
}

func TestConnectWhileRunning(t *testing.T) {
	n := newNets(t)
	web, db := n.box(t, "web", "app"), n.box(t, "db", "back")
	serving(t, db, "http", ":80", "data")
	if lookup(t, web, "db") != nil {
		t.Fatal("they see each other")
	}
	if err := web.Connect(t.Context(), network.Endpoint{Network: "back", Aliases: []string{"front"}}); err != nil {
		t.Fatal(err)
	}
	if got := execOutput(t, web, "get", "db:80"); got != "data" {
		t.Errorf("got %q", got)
	}
	eventually(t, "the alias", func() bool {
		return slices.Contains(lookup(t, db, "front"), addr(t, web, "back", false).String())
	})
	err := web.Connect(t.Context(), network.Endpoint{Network: "back"})
	is(t, err, fs.ErrExist)
	info, err := n.Manager.Get(t.Context(), "back")
	if err != nil {
		t.Fatal(err)
	}
	if i, err := info.Inspect(t.Context()); err != nil || len(i.Attached) != 2 {
		t.Errorf("attached %+v, %v", i.Attached, err)
	}
	if err := n.Manager.Remove(t.Context(), "back"); !errors.Is(err, network.ErrInUse) || !strings.Contains(err.Error(), "db") {
		t.Errorf("remove in use: %v", err)
	}
	// It is still so after a stop and a start.
	before := addr(t, web, "back", false)
	if err := web.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := web.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := addr(t, web, "back", false); got != before {
		t.Errorf("after a restart it has %s, before %s", got, before)
	}
	// The first network goes: the second gives the way out.
	if err := web.Disconnect(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if got := execOutput(t, web, "cat", "/proc/net/route"); strings.Count(got, "\n") < 1 || strings.Contains(got, "eth0") {
		t.Errorf("routes %q", got)
	}
	if got := execOutput(t, web, "get", "db:80"); got != "data" {
		t.Errorf("got %q", got)
	}
	is(t, web.Disconnect(t.Context(), "app"), fs.ErrNotExist)
	if err := web.Disconnect(t.Context(), "back"); err != nil {
		t.Fatal(err)
	}
	if err := web.Connect(t.Context(), network.Endpoint{Network: "app"}); err != nil {
		t.Errorf("connect after the last one went: %v", err)
	}
	// At rest only the record changes.
	if err := web.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := web.Connect(t.Context(), network.Endpoint{Network: "back"}); err != nil {
		t.Fatal(err)
	}
	if err := web.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(inspect(t, web).Networks); got != 2 {
		t.Errorf("%d networks", got)
	}
	bare := n.bench.start(t, Spec{Networks: on("none")}, "pause")
	err = bare.Connect(t.Context(), network.Endpoint{Network: "app"})
	is(t, err, fs.ErrInvalid)
	says(t, err, "none")
}

func TestFixedAddresses(t *testing.T) {
	n := newNets(t, network.Spec{Name: "app", Subnets: []network.Subnet{{Prefix: netip.MustParsePrefix("10.213.7.0/29"), Reserved: []netip.Addr{netip.MustParseAddr("10.213.7.2")}}}})
	want := netip.MustParseAddr("10.213.7.3")
	fixed := Spec{Name: "fixed", Networks: []network.Endpoint{{Network: "app", Addresses: []netip.Addr{want}, MAC: "02:11:22:33:44:55"}}}
	c := n.bench.start(t, fixed, "pause")
	if got := addr(t, c, "app", false); got != want {
		t.Errorf("address %s, want %s", got, want)
	}
	if got := execOutput(t, c, "ip"); !strings.Contains(got, "02:11:22:33:44:55") {
		t.Errorf("MAC: %s", got)
	}
	for addr, kind := range map[string]error{"10.213.7.3": fs.ErrExist, "10.213.7.2": fs.ErrExist, "10.213.8.1": fs.ErrInvalid, "10.213.7.1": fs.ErrInvalid, "10.213.7.7": fs.ErrInvalid, "fd00::1": fs.ErrInvalid} {
		_, err := n.bench.try(t, Spec{Networks: []network.Endpoint{{Network: "app", Addresses: []netip.Addr{netip.MustParseAddr(addr)}}}}, "true")
		is(t, err, kind)
		says(t, err, addr)
	}
	// It stays his while he rests, whoever else comes.
	if err := c.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // .4 .5 .6
		o := n.box(t, fmt.Sprintf("other%d", i), "app")
		if got := addr(t, o, "app", false); got == want || got == netip.MustParseAddr("10.213.7.2") {
			t.Errorf("%s was given away", got)
		}
	}
	full := n.bench.create(t, Spec{Networks: on("app")}, "pause")
	err := full.Start(t.Context())
	says(t, err, "app", "10.213.7.")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := addr(t, c, "app", false); got != want {
		t.Errorf("address %s, want %s", got, want)
	}
}

// A container that its policy starts again keeps address and port.
func TestRestartKeepsTheNetwork(t *testing.T) {
	n := newNets(t)
	c := n.bench.start(t, Spec{Networks: on("app"), Restart: Restart{Policy: "always"}, Ports: []network.Port{{Container: 80}}}, "http", ":80", "again")
	at, err := c.Port(t.Context(), "80")
	if err != nil {
		t.Fatal(err)
	}
	before := inspect(t, c)
	// Process 1 does not feel a signal that it does not handle yet.
	eventually(t, "the page", func() bool { got, err := fetch(t.Context(), at.String()); return err == nil && got == "again" })
	c.Command(t.Context(), "kill", "-TERM", "1").Run() // it dies with the container, or before
	eventually(t, "the restart", func() bool { i := inspect(t, c); return i.Restarts > 0 && i.Status == Running })
	after := inspect(t, c)
	if before.Networks[0].Addresses[0] != after.Networks[0].Addresses[0] {
		t.Errorf("addresses %v, then %v", before.Networks[0].Addresses, after.Networks[0].Addresses)
	}
	eventually(t, "the page", func() bool { got, err := fetch(t.Context(), at.String()); return err == nil && got == "again" })
}

// greet tells everybody who connects the text, until the listener is closed.
func greet(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, text)
		c.Close()
	}
}

func TestWaysOut(t *testing.T) {
	n := newNets(t, network.Spec{Name: "app"}, network.Spec{Name: "closed", Internal: true})
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go greet(l, "the host")
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	c := n.bench.start(t, Spec{Networks: on("app"), ExtraHosts: []string{"outside:host-gateway"}}, "pause")
	if got, _ := c.Command(t.Context(), "dial", "outside:"+port).Output(); strings.TrimSpace(string(got)) != "the host" {
		t.Errorf("host-gateway: %q", got)
	}
	inner := n.box(t, "inner", "closed")
	for _, route := range readLines(execOutput(t, inner, "cat", "/proc/net/route"))[1:] {
		if f := strings.Fields(route); f[1] == "00000000" {
			t.Errorf("an internal network has a default route: %q", route)
		}
	}
	mate := n.box(t, "mate", "closed")
	serving(t, mate, "http", ":80", "inside")
	if got := execOutput(t, inner, "get", "mate:80"); got != "inside" {
		t.Errorf("within an internal network: %q", got)
	}
}

func TestProgramAndNetwork(t *testing.T) {
	n := newNets(t)
	app, err := n.Manager.Get(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	l, err := app.Listen(t.Context(), "tcp", "api:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go greet(l, "the program")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := n.box(t, "box", "app")
	eventually(t, "the program's name", func() bool { return lookup(t, c, "api") != nil })
	if got, _ := c.Command(t.Context(), "dial", "api:"+port).Output(); strings.TrimSpace(string(got)) != "the program" {
		t.Errorf("from the program: %q", got)
	}
	serving(t, c, "tcpecho", ":7")
	conn, err := app.Dial(t.Context(), "tcp", "box:7")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := app.Dial(t.Context(), "tcp", "nobody:7"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dial nobody: %v", err)
	}
	if _, err := app.Listen(t.Context(), "tcp", "box:0"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("listen as a container: %v", err)
	}
	l.Close()
	eventually(t, "the name's end", func() bool { return lookup(t, c, "api") == nil })
}

func TestNetworkMistakes(t *testing.T) {
	b := newBench(t)
	for name, spec := range map[string]Spec{
		"mynet":         {Networks: on("mynet")},
		"twice":         {Networks: on("bridge", "bridge")},
		"alone":         {Networks: on("bridge", "host")},
		"no names":      {Networks: []network.Endpoint{{Network: "bridge", Aliases: []string{"x"}}}},
		"none":          {Networks: on("none"), Ports: []network.Port{{Container: 80}}},
		"even":          {Networks: []network.Endpoint{{Network: "bridge", MAC: "01:00:00:00:00:01"}}},
		"published":     {Process: Process{Env: []string{`P={{port "99"}}`}}},
		"1 to 65535":    {Ports: []network.Port{{}}},
		"protocol":      {Ports: []network.Port{{Container: 1, Protocol: "icmp"}}},
		"no IP address": {Ports: []network.Port{{Container: 1, Host: "here"}}},
	} {
		_, err := b.try(t, spec, "true")
		is(t, err, fs.ErrInvalid)
		says(t, err, name)
	}
	c := b.create(t, Spec{Ports: []network.Port{{Container: 1, Host: "203.0.113.9"}}}, "true")
	err := c.Start(t.Context())
	is(t, err, fs.ErrInvalid)
	says(t, err, "203.0.113.9")
}
