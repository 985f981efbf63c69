package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestMacvlan(t *testing.T) {
	l := newLab(t)
	uplink(t, "parent0", "10.204.0.1/24", 1450)
	conflist := func(master string) []byte {
		return []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"macvlan","master":%q,"capabilities":{"ips":true,"mac":true},
			"ipam":{"type":"host-local","ranges":[[{"subnet":"10.204.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`, l.network(), master))
	}
	a, b := newNS(t), newNS(t)
	with := func(r *Request) { r.Conflist = conflist("parent0") }
	ra := l.mustAdd("c1", a, "eth0", with)
	rb := l.mustAdd("c2", b, "eth0", with)
	if ra.HostLink != "" || ra.Plugins["macvlan"] != Builtin {
		t.Errorf("%+v", ra)
	}
	talk(t, a, b, netJoin(rb.Addresses[0].Addr(), 80))
	ctx := t.Context()
	req := &Request{Conflist: conflist("parent0"), ID: "c1", NetNS: a, IfName: "eth0"}
	if err := errors.Join(l.Check(ctx, req), l.Status(ctx, req.Conflist), l.Up(ctx, req.Conflist), l.Del(ctx, req), l.Del(ctx, req)); err != nil {
		t.Fatal(err)
	}
	insideOf(t, a, func(h *netlink.Handle) error {
		if _, err := h.LinkByName("eth0"); !isNotFound(err) {
			t.Errorf("eth0 after DEL: %v", err)
		}
		return nil
	})
	for master, text := range map[string]string{"nothing0": "no such link", "": "default route"} {
		_, err := l.add("c3", newNS(t), "eth0", func(r *Request) { r.Conflist = conflist(master) })
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("master %q: %v", master, err)
		}
	}
	// The namespace has an eth0: the failed one must not take it along.
	if _, err := l.add("c4", b, "eth0", with); err == nil {
		t.Error("a second eth0")
	}
	insideOf(t, b, func(h *netlink.Handle) error { _, err := h.LinkByName("eth0"); return err })
	if err := errors.Join(l.GC(ctx, conflist("parent0"), nil), l.Down(ctx, conflist("parent0"))); err != nil {
		t.Fatal(err)
	}
	l.clean("after GC")
}

func TestLoopbackPlugin(t *testing.T) {
	l := newLab(t)
	ns := newNS(t)
	conflist := []byte(`{"cniVersion":"1.1.0","name":"lo","plugins":[{"type":"loopback"}]}`)
	req := &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "lo"}
	if _, err := l.Add(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	talk(t, ns, ns, "127.0.0.1:80")
	if err := errors.Join(l.Check(t.Context(), req), l.Del(t.Context(), req)); err != nil {
		t.Fatal(err)
	}
}
