package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// A built-in chain that a binary follows, then DEL and GC of it.
func TestBinaryAfterBuiltins(t *testing.T) {
	l := newLab(t)
	l.down()
	l.installPlugin("tuned")
	ns := newNS(t)
	conflist := l.conflistWith("", `,{"type":"tuned"}`)
	with := func(r *Request) { r.Conflist = conflist }
	res := l.mustAdd("c1", ns, "eth0", with)
	path := filepath.Join(l.dir, "bin", "tuned")
	if res.Plugins["tuned"] != path || res.Plugins["bridge"] != Builtin || len(res.Addresses) != 2 {
		t.Errorf("%+v", res)
	}
	ctx := t.Context()
	again := &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0", Plugins: res.Plugins}
	if err := errors.Join(l.Check(ctx, again), l.Status(ctx, conflist), l.Validate(conflist), l.Del(ctx, again)); err != nil {
		t.Fatal(err)
	}
	if got, want := l.pluginCalls(), "tuned ADD reachable\ntuned CHECK reachable\ntuned STATUS \ntuned DEL reachable\n"; got != want {
		t.Errorf("calls:\n%swant:\n%s", got, want)
	}
	l.clean("after DEL")
	l.mustAdd("c2", newNS(t), "eth0", with)
	l.pluginCalls()
	if err := l.GC(ctx, conflist, nil); err != nil {
		t.Fatal(err)
	}
	// The namespace is alive, and still it is not given to anybody.
	if got, want := l.pluginCalls(), "tuned DEL \ntuned GC \n"; got != want {
		t.Errorf("calls of GC:\n%swant:\n%s", got, want)
	}
	l.clean("after GC")
}

// The built-in bridge with a binary for the addresses.
func TestBinaryIPAM(t *testing.T) {
	l := newLab(t)
	l.installPlugin("oracle")
	ns := newNS(t)
	conflist := []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"bridge","bridge":%q,"isGateway":true,
		"ipam":{"type":"oracle","address":"10.79.0.5/24","gateway":"10.79.0.1"}}]}`, l.network(), l.bridge()))
	with := func(r *Request) { r.Conflist = conflist }
	res := l.mustAdd("c1", ns, "eth0", with)
	if res.Addresses[0] != netip.MustParsePrefix("10.79.0.5/24") || res.Plugins["oracle"] == Builtin {
		t.Errorf("%+v", res)
	}
	if b := l.table.bridges[l.bridge()]; len(b.Subnets) != 1 || b.Subnets[0] != netip.MustParsePrefix("10.79.0.0/24") || !b.Open {
		t.Errorf("%+v", b)
	}
	ctx := t.Context()
	again := &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}
	if err := errors.Join(l.Check(ctx, again), l.Status(ctx, conflist), l.Del(ctx, again), l.GC(ctx, conflist, nil), l.Down(context.Background(), conflist)); err != nil {
		t.Fatal(err)
	}
	if got, want := l.pluginCalls(), "oracle ADD reachable\noracle CHECK reachable\noracle STATUS \noracle DEL reachable\noracle GC \n"; got != want {
		t.Errorf("calls:\n%swant:\n%s", got, want)
	}
}

// A binary that makes the interface, and built-in port mapping after it.
func TestBinaryMain(t *testing.T) {
	l := newLab(t)
	l.installPlugin("ptp")
	ns := newNS(t)
	conflist := []byte(fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"ptp","ipam":{"type":"unheard-of"}},{"type":"portmap","capabilities":{"portMappings":true}}]}`, l.network()))
	res := l.mustAdd("c1", ns, "eth0", func(r *Request) {
		r.Conflist = conflist
		r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}
	})
	if res.Plugins["portmap"] != Builtin || len(l.table.owners[l.network()+"/c1/eth0"]) != 1 || res.MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("%+v %v", res, l.table.owners)
	}
	if err := l.Del(t.Context(), &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	l.clean("after DEL")
	l.installPlugin("portmap") // what follows a binary is a binary, if there is one
	res = l.mustAdd("c1", ns, "eth0", func(r *Request) {
		r.Conflist = conflist
		r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}
	})
	if res.Plugins["portmap"] == Builtin {
		t.Errorf("%+v", res)
	}
	if err := l.Del(t.Context(), &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	l.clean("after DEL by binaries")
}

// What did ADD does DEL, also when a binary has come or gone since.
func TestImplementationIsRecorded(t *testing.T) {
	l := newLab(t)
	l.down()
	conflist := l.conflistWith(`"vlan":7,`, "")
	_, err := l.add("c1", newNS(t), "eth0", func(r *Request) { r.Conflist = conflist })
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), `field "vlan"`) {
		t.Errorf("unknown field: %v", err)
	}
	if err := l.Validate(conflist); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Validate: %v", err)
	}
	ns := newNS(t)
	l.mustAdd("c1", ns, "eth0", nil) // by the built-ins
	for _, typ := range []string{"bridge", "portmap", "firewall", "bandwidth", "host-local"} {
		l.installPlugin(typ)
	}
	again := &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}
	if err := errors.Join(l.Check(t.Context(), again), l.Del(t.Context(), again)); err != nil {
		t.Fatal(err)
	}
	if calls := l.pluginCalls(); calls != "" {
		t.Errorf("binaries were called for what built-ins did:\n%s", calls)
	}
	l.clean("after DEL")
	res, err := l.add("c1", ns, "eth0", func(r *Request) { r.Conflist = conflist })
	if err != nil || res.Plugins["bridge"] != filepath.Join(l.dir, "bin", "bridge") {
		t.Fatalf("%+v, %v", res, err)
	}
	if err := l.Del(t.Context(), &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if calls := l.pluginCalls(); !strings.Contains(calls, "bridge DEL") {
		t.Errorf("DEL of what a binary did:\n%s", calls)
	}
}

func TestFieldsAndTypes(t *testing.T) {
	l := newLab(t)
	plugin := func(conf string) []byte {
		return []byte(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"x","plugins":[%s]}`, conf))
	}
	for conf, want := range map[string]string{
		`{"type":"bridge","vlan":0,"promiscMode":false,"isGateway":true}`:                       "",
		`{"type":"bridge","vlan":5}`:                                                            `field "vlan"`,
		`{"type":"bridge","macspoofchk":true}`:                                                  `field "macspoofchk"`,
		`{"type":"bridge","unheard":{}}`:                                                        `field "unheard"`,
		`{"type":"bridge","mtu":9}`:                                                             "68 to 65535",
		`{"type":"bridge","mtu":"big"}`:                                                         "mtu",
		`{"type":"bridge","bridge":"a/b"}`:                                                      "a/b",
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}`:                 "",
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0"}}`:                    "host-local",
		`{"type":"bridge","ipam":{"type":"host-local"}}`:                                        "at least one",
		`{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24","dns":{}}}`:        `field "dns"`,
		`{"type":"bridge","ipam":{"type":"dhcp"}}`:                                              "plugin dhcp",
		`{"type":"nothing"}`:                                                                    "plugin nothing",
		`{"type":"../nothing"}`:                                                                 "nothing",
		`{"type":"bridge"},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}}`: "",
		`{"type":"bridge"},{"type":"portmap","snat":false}`:                                     `field "snat"`,
		`{"type":"bridge"},{"type":"firewall","backend":""}`:                                    "",
		`{"type":"bridge"},{"type":"firewall","backend":"firewalld"}`:                           `field "backend"`,
		`{"type":"bridge"},{"type":"firewall","ingressPolicy":"isolated"}`:                      `ingressPolicy "isolated"`,
		`{"type":"macvlan","mode":"source"}`:                                                    `mode "source"`,
		`{"type":"bridge"},{"type":"bandwidth","ingressRate":5}`:                                "least is 8000",
		`{"type":"loopback"}`:                                                                   "",
	} {
		err := l.Validate(plugin(conf))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
	for _, bad := range []string{``, `{}`, `{"name":"x"}`, `{"name":"../x","plugins":[{"type":"bridge"}]}`, `{"name":"x","plugins":[{}]}`} {
		if err := l.Validate([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// Failures after the link was made: all is taken back.
func TestFailedAddIsUndone(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		prepare func(*lab)
		plugins string
		is      func(error) bool
	}{
		"built-in": {func(l *lab) {
			l.table.fail = func(what string) error {
				if what == "AddPorts" {
					return boom
				}
				return nil
			}
		}, "", func(err error) bool { return errors.Is(err, boom) }},
		"binary": {func(l *lab) { l.installPlugin("late") }, `,{"type":"late","fail":"ADD"}`, func(err error) bool {
			var e *types.Error
			return errors.As(err, &e) && e.Msg == "late was told to fail"
		}},
		"panic": {func(l *lab) {
			l.table.fail = func(what string) error {
				if what == "AddPorts" {
					panic("a bug")
				}
				return nil
			}
		}, "", func(err error) bool {
			return strings.Contains(err.Error(), "plugin portmap panicked: a bug") && strings.Contains(err.Error(), ".go:")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.down()
			c.prepare(l)
			ns := newNS(t)
			_, err := l.add("c1", ns, "eth0", func(r *Request) {
				r.Conflist = l.conflistWith("", c.plugins)
				r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}
			})
			if err == nil || !c.is(err) {
				t.Errorf("%v", err)
			}
			l.clean("after a failure")
			l.table.fail = nil
			l.mustAdd("c1", ns, "eth0", nil)
			l.mustDel("c1", ns, "eth0")
		})
	}
}

// A context that ends in the middle: the clean-up has one of its own.
func TestCancelledAddIsUndone(t *testing.T) {
	l := newLab(t)
	l.down()
	ctx, cancel := context.WithCancel(t.Context())
	l.table.fail = func(what string) error {
		if what == "AddBridge" {
			cancel()
		}
		return nil
	}
	_, err := l.Add(ctx, &Request{Conflist: l.conflist(), ID: "c1", NetNS: newNS(t), IfName: "eth0"})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.clean("after a cancelled ADD")
}

// Binaries that hang, that say nothing sensible, that cannot be run.
func TestBadBinaries(t *testing.T) {
	l := newLab(t)
	l.down()
	for name, c := range map[string]struct{ script, text string }{
		"hang":    {"#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\nsleep 60\n", "was ended: context deadline exceeded"},
		"mute":    {"#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\nexit 3\n", "exit status 3"},
		"chatty":  {"#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho oops >&2; echo no json; exit 1\n", "no json\n oops"},
		"garbage": {"#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho no json\n", "invalid character"},
		"broken":  {"#!/nonexistent\n", "run plugin"},
	} {
		bin := filepath.Join(l.dir, "bin")
		if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, name), []byte(c.script), 0o755)); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if name == "hang" {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
		}
		_, err := l.Add(ctx, &Request{Conflist: l.conflistWith("", fmt.Sprintf(`,{"type":%q}`, name)), ID: "c1", NetNS: newNS(t), IfName: "eth0"})
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		l.clean(name) // also when DEL fails: "broken"
	}
}

func TestPortConflict(t *testing.T) {
	l := newLab(t)
	l.down()
	publish := func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}} }
	l.mustAdd("c1", newNS(t), "eth0", publish)
	_, err := l.add("c2", newNS(t), "eth0", publish)
	if !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "c1/eth0") {
		t.Error(err)
	}
	if len(l.portsOn()) != 1 || len(l.leaseFiles()) != 2 {
		t.Errorf("left: %v %v", l.portsOn(), l.leaseFiles())
	}
	if err := l.GC(t.Context(), l.conflist(), nil); err != nil {
		t.Fatal(err)
	}
	l.clean("after GC")
}

func TestPanicInNamespace(t *testing.T) {
	ns, err := openNetNS(newNS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := inNetNS(ns, func() error { panic("a bug") }); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Error(err)
	}
}
