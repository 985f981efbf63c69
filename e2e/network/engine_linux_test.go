package network

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/network"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// engine makes the world of package reach.
type engine struct {
	t *testing.T
	*amphora.Engine
}

func open(t *testing.T) *engine {
	t.Helper()
	dir := testenv.Dir(t)
	eng, err := amphora.Open(t.Context(), &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	if _, err := eng.Images().Import(t.Context(), bytes.NewReader(testenv.RootfsTar(t)), &image.ImportOptions{Ref: "box"}); err != nil {
		t.Fatal(err)
	}
	return &engine{t, eng}
}

func (e *engine) Network(ctx context.Context, name string, internal bool) (all []reach.Subnet, err error) {
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

func (e *engine) Run(ctx context.Context, name, at string, publish ...string) (int, []netip.Addr, error) {
	spec := &container.Spec{Name: name, Image: "box", Networks: []network.Endpoint{{Network: at}}}
	spec.Command = answer(name)
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

// answer is what every container runs.
func answer(name string) []string { return []string{"answer", name, ":80", ":81"} }

// firewalls are Check's findings about others' filters.
func (e *engine) firewalls() (found []amphora.Finding) {
	e.t.Helper()
	all, err := e.Check(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range all {
		if f.Name == "firewall" || strings.HasPrefix(f.Name, "nf_tables") {
			found = append(found, f)
		}
	}
	return found
}

func (e *engine) reload() {
	e.t.Helper()
	if err := e.Networks().Reload(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}
