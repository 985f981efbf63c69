package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/amphora-go/amphora/internal/ipam"
)

// Conflists as others write them, in all versions of the specification.
func TestOldVersions(t *testing.T) {
	for _, version := range []string{`"cniVersion":"0.2.0",`, `"cniVersion":"0.3.1",`, `"cniVersion":"0.4.0",`, `"cniVersion":"1.0.0",`, `"cniVersions":["0.4.0","1.0.0","1.1.0","2.0.0"],"cniVersion":"0.3.0",`, ``} {
		l := newLab(t)
		conflist := []byte(fmt.Sprintf(`{%s"name":%q,"plugins":[
		  {"type":"bridge","bridge":%q,"isGateway":true,"isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,"vlan":0,
		   "ipam":{"type":"host-local","subnet":%q,"gateway":%q}},
		  {"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall","backend":""}]}`,
			version, l.network(), l.bridge(), l.subnet4(), l.subnet4().Addr().Next()))
		ns := newNS(t)
		res, err := l.add("c1", ns, "eth0", func(r *Request) {
			r.Conflist = conflist
			r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}
		})
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		if len(res.Addresses) != 1 || len(res.Gateways) != 1 || len(l.table.owners) != 1 || !l.table.bridges[l.bridge()].Open {
			t.Errorf("%s: %+v %+v", version, res, l.table.bridges)
		}
		insideOf(t, ns, func(h *netlink.Handle) error {
			if routes := defaultRoutes(h, netlink.FAMILY_V4); len(routes) != 1 {
				t.Errorf("%s: default routes %v", version, routes)
			}
			return nil
		})
		req := &Request{Conflist: conflist, ID: "c1", NetNS: ns, IfName: "eth0"}
		err = l.Check(t.Context(), req)
		if old := strings.Contains(version, "0.2") || strings.Contains(version, "0.3.1") || version == ""; old == (err == nil) {
			t.Errorf("%s: CHECK: %v", version, err) // it came with 0.4.0
		}
		if err := errors.Join(l.Del(t.Context(), req), l.GC(t.Context(), conflist, nil)); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		l.clean(version)
		l.mustAdd("c2", ns, "eth0", func(r *Request) { r.Conflist = conflist })
		if err := errors.Join(l.GC(t.Context(), conflist, nil), l.Down(context.Background(), conflist)); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		l.clean(version)
	}
}

// The real host-local goes on with our leases, and we with its.
func TestRealHostLocal(t *testing.T) {
	binary := ""
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil {
			binary = filepath.Join(dir, "host-local")
		}
	}
	if binary == "" {
		t.Skip("needs the plugin host-local: apt-get install containernetworking-plugins")
	}
	l := newLab(t)
	leases := filepath.Join(l.dir, "net", "leases")
	run := func(command, id string) string {
		t.Helper()
		cmd := exec.Command(binary)
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"shared","type":"bridge","ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.81.0.0/29"}],[{"subnet":"fd81::/64"}]]}}`, leases))
		cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=/x", "CNI_PATH=/x"}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %s: %v\n%s", command, id, err, out.String())
		}
		var result struct{ IPs []struct{ Address string } }
		json.Unmarshal(out.Bytes(), &result)
		if len(result.IPs) == 0 {
			return ""
		}
		return result.IPs[0].Address
	}
	sets := []ipam.Set{{{Subnet: netip.MustParsePrefix("10.81.0.0/29")}}, {{Subnet: netip.MustParsePrefix("fd81::/64")}}}
	ours := func(id string) string {
		t.Helper()
		got, err := l.leases.Allocate(t.Context(), "shared", sets, ipam.Want{Key: Key{ID: id, IfName: "eth0"}})
		if err != nil {
			t.Fatal(err)
		}
		return got[0].Prefix.String()
	}
	got := []string{ours("a"), run("ADD", "b"), ours("c"), run("ADD", "d")}
	if want := "10.81.0.2/29 10.81.0.3/29 10.81.0.4/29 10.81.0.5/29"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	run("DEL", "a") // crosswise
	run("DEL", "c")
	for _, id := range []string{"b", "d", "a"} {
		if err := l.leases.Release(t.Context(), "shared", Key{ID: id, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := l.leases.Leases("shared"); err != nil || len(all) > 0 {
		t.Errorf("left %v, %v", all, err)
	}
	ours("a") // what the index says of a is not so any more
}

// FuzzConflist: nothing in a conflist may do more than be refused.
func FuzzConflist(f *testing.F) {
	l := &lab{net: 1, id: "00000000"}
	f.Add(l.conflist())
	f.Add([]byte(`{"name":"x","plugins":[{"type":"macvlan","ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/8","rangeStart":"::"}]]}}]}`))
	f.Add([]byte(`{"name":"x","plugins":[{"type":"bandwidth","ingressRate":-1},{"type":"firewall"}]}`))
	f.Add([]byte(`{"name":"x","cniVersions":["1.0.0"],"plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"::ffff:10.0.0.0/104"}}]}`))
	c := New(optionsIn("/nonexistent", "00000000", &fakeFilter{}))
	f.Fuzz(func(t *testing.T, conflist []byte) {
		if c.Validate(conflist) != nil {
			return
		}
		if _, _, err := c.BridgeOf(conflist); err != nil {
			t.Errorf("valid, but: %v", err)
		}
	})
}
