package container

import (
	"testing"

	"github.com/amphora-go/amphora/network"
	"github.com/vishvananda/netlink"
)

// The limit of what a container receives is a queue at the host's end of its
// cable.
func TestBandwidth(t *testing.T) {
	b := newBench(t)
	rates := func(limit network.Bandwidth) (out []uint64) {
		c := b.start(t, Spec{Networks: []network.Endpoint{{Network: network.Bridge, Bandwidth: limit}}}, "pause")
		all, err := b.networks.Attached(c.ID())
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		link, err := netlink.LinkByName(all[0].HostLink)
		if err != nil {
			t.Fatal(err)
		}
		queues, err := netlink.QdiscList(link)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queues {
			if tbf, ok := q.(*netlink.Tbf); ok {
				out = append(out, tbf.Rate)
			}
		}
		return out
	}
	if got := rates(network.Bandwidth{Ingress: 1 << 20, Egress: 2 << 20}); len(got) != 1 || got[0] != 1<<20 {
		t.Errorf("rates %v, want %d bytes a second", got, 1<<20)
	}
	if got := rates(network.Bandwidth{}); len(got) != 0 {
		t.Errorf("rates %v without a limit", got)
	}
}
