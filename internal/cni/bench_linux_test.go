package cni

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/amphora-go/amphora/internal/ipam"
	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/testenv"
)

// BenchmarkAttach is ADD and DEL of a dual-stack attachment with a published
// port, beside so many leases and ports. DEL is the lazy one, of a namespace
// that goes away by itself; its death is not in the time. Metrics: ms of ADD
// and of DEL.
func BenchmarkAttach(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchAttach(b, n, true) })
	}
	b.Run("10-eager", func(b *testing.B) { benchAttach(b, 10, false) })
}

func benchAttach(b *testing.B, n int, lazy bool) {
	testenv.Root(b)
	routing(b, "1")
	id := testenv.OwnID(b)
	dir := testenv.Dir(b)
	table := nft.New(id)
	c := New(optionsIn(dir, id, table))
	bridge := "amp" + id[:4] + "000001"
	conflist := []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"big","plugins":[
 {"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"hairpinMode":true,"capabilities":{"ips":true,"mac":true},
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.100.0.0/16"}],[{"subnet":"fd64::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall","ingressPolicy":"same-bridge"},
 {"type":"bandwidth","capabilities":{"bandwidth":true}}]}`, bridge))
	b.Cleanup(func() {
		c.GC(context.Background(), conflist, nil)
		if err := c.Down(context.Background(), conflist); err != nil {
			b.Error(err)
		}
		if err := table.Drop(); err != nil {
			b.Error(err)
		}
	})
	sets := []ipam.Set{{{Subnet: netip.MustParsePrefix("10.100.0.0/16")}}, {{Subnet: netip.MustParsePrefix("fd64::/64")}}}
	if err := c.Up(b.Context(), conflist); err != nil {
		b.Fatal(err)
	}
	var ports []nft.Port
	for i := range n {
		leases, err := c.leases.Allocate(b.Context(), "big", sets, ipam.Want{Key: Key{ID: fmt.Sprintf("full%d", i), IfName: "eth0"}})
		if err != nil {
			b.Fatal(err)
		}
		ports = append(ports, nft.Port{Protocol: "tcp", HostPort: uint16(20000 + i), To: netip.AddrPortFrom(leases[0].Prefix.Addr(), 80)})
	}
	if err := table.AddPorts("big/full/eth0", ports); err != nil {
		b.Fatal(err)
	}
	namespaces := make(chan *os.File, 1)
	var add, del float64
	count := 0
	for b.Loop() {
		b.StopTimer()
		f, err := makeNS()
		if err != nil {
			b.Fatal(err)
		}
		namespaces <- f
		req := &Request{Conflist: conflist, ID: "x" + strconv.Itoa(count), NetNS: fmt.Sprintf("/proc/self/fd/%d", f.Fd()), IfName: "eth0",
			Ports: []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}}
		count++
		b.StartTimer()
		at := b.Elapsed()
		res, err := c.Add(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		add += (b.Elapsed() - at).Seconds()
		at = b.Elapsed()
		gone := &Request{Conflist: conflist, ID: req.ID, IfName: "eth0", Plugins: res.Plugins}
		if !lazy {
			gone.NetNS = req.NetNS
		}
		if err := c.Del(b.Context(), gone); err != nil {
			b.Fatal(err)
		}
		del += (b.Elapsed() - at).Seconds()
		b.StopTimer()
		(<-namespaces).Close()
		b.StartTimer()
	}
	b.ReportMetric(add*1000/float64(count), "add-ms")
	b.ReportMetric(del*1000/float64(count), "del-ms")
}
