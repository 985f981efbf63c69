package container

import (
	"net"
	"testing"

	"github.com/amphora-go/amphora/network"
)

// Networks that are not isolated from each other are routed.
func TestRoutedNetworks(t *testing.T) {
	n := newNets(t, network.Spec{Name: "one", Isolation: network.Routed}, network.Spec{Name: "two", Isolation: network.Routed, IPv6: true}, network.Spec{Name: "three"})
	one, two, three := n.box(t, "first", "one"), n.box(t, "second", "two"), n.box(t, "third", "three")
	serving(t, two, "http", ":80", "routed")
	at := net.JoinHostPort(addr(t, two, "two", false).String(), "80")
	if got := execOutput(t, one, "get", at); got != "routed" {
		t.Errorf("got %q", got)
	}
	if out, err := three.Command(t.Context(), "get", at).CombinedOutput(); err == nil {
		t.Errorf("from an isolated network: %s", out)
	}
	if got := lookup(t, one, "second"); got != nil {
		t.Errorf("names of another network: %v", got)
	}
}
