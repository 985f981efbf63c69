package amphora_test

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/network"
)

// reachEngine makes the world of package reach.
type reachEngine struct {
	t *testing.T
	*amphora.Engine
}

func (e *reachEngine) Network(ctx context.Context, name string, internal bool) (all []reach.Subnet, err error) {
	n, err := e.Networks().Create(ctx, &network.Spec{Name: name, Internal: internal, IPv6: true})
	if err != nil {
		return nil, err
	}
	e.t.Cleanup(func() {
		if err := e.Networks().Remove(context.Background(), name); err != nil {
			e.t.Errorf("clean up: %v", err)
		}
	})
	info, err := n.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range info.Subnets {
		all = append(all, reach.Subnet{Prefix: s.Prefix, Gateway: s.Gateway})
	}
	return all, nil
}

func (e *reachEngine) Run(ctx context.Context, name, at string, publish ...string) (int, []netip.Addr, error) {
	spec := &container.Spec{Name: name, Image: "box", Networks: []network.Endpoint{{Network: at}}}
	spec.Command = []string{"answer", name, ":80", ":81"}
	for _, p := range publish {
		ports, err := network.ParsePort(p)
		if err != nil {
			return 0, nil, err
		}
		spec.Ports = append(spec.Ports, ports...)
	}
	c, err := e.Containers().Create(ctx, spec, nil)
	if err != nil {
		return 0, nil, err
	}
	e.t.Cleanup(func() {
		if err := c.Remove(context.Background(), &container.RemoveOptions{Force: true}); err != nil {
			e.t.Errorf("clean up: %v", err)
		}
	})
	if err := c.Start(ctx); err != nil {
		return 0, nil, err
	}
	info, err := c.Inspect(ctx)
	if err != nil {
		return 0, nil, err
	}
	var addrs []netip.Addr
	for _, p := range info.Networks[0].Addresses {
		addrs = append(addrs, p.Addr())
	}
	return info.Pid, addrs, nil
}

// Who reaches whom, and who must not: every cell of the table in docs/network.md
// that needs no other container engine.
func TestReach(t *testing.T) {
	if !reach.Isolated(t) {
		return
	}
	dir := testenv.Dir(t)
	eng, err := amphora.Open(t.Context(), &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	if _, err := eng.Images().Import(t.Context(), bytes.NewReader(testenv.RootfsTar(t)), &image.ImportOptions{Ref: "box"}); err != nil {
		t.Fatal(err)
	}
	w := reach.NewWorld(t, &reachEngine{t, eng})
	for _, bridgeNF := range []bool{false, true} {
		if !w.BridgeNF(bridgeNF) && bridgeNF {
			t.Log("this kernel has no bridge-nf-call-iptables")
			break
		}
		table := w.Ask()
		for _, wrong := range table.Wrong() {
			t.Errorf("bridge-nf-call-iptables %v: %s", bridgeNF, wrong)
		}
		t.Logf("\n%s", table.Markdown())
	}
	for _, through := range w.Attacks() {
		t.Error(through)
	}
}
