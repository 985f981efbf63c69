package networks

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// Spec says what network to make.
type Spec struct {
	Name     string
	Driver   string // bridge (also for ""), macvlan, or the type of a plugin in the CNI path
	Labels   map[string]string
	Options  map[string]string // of the driver
	Subnets  []Subnet          // empty: chosen
	IPv6     bool              // choose an IPv6 subnet as well
	Internal bool
	Open     bool
	MTU      int    // 0: that of the interface with the default route
	Conflist []byte // instead of all but Name and Labels
}

// checkName is Docker's rule for networks: that of containers, or one letter
// or digit.
func checkName(name string) error {
	if len(name) == 1 && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return nil
	}
	return record.CheckName(name)
}

// reserved are names that mean something else.
var reserved = map[string]string{
	"host": "the host's own interfaces", "none": "no network", Default: "the default network, which always exists", "default": "the default network",
}

func (spec *Spec) check() error {
	if err := checkName(spec.Name); err != nil {
		return err
	}
	if what := reserved[spec.Name]; what != "" {
		return fault.Invalid("the name %q means %s: choose another one", spec.Name, what)
	}
	return spec.checkRest()
}

func (spec *Spec) checkRest() error {
	if spec.MTU != 0 && (spec.MTU < 68 || spec.MTU > 65535) {
		return fault.Invalid("MTU %d: give 68 to 65535 bytes, 1280 at least for IPv6; or 0 for the host's", spec.MTU)
	}
	if len(spec.Conflist) > 0 {
		if spec.Driver != "" || len(spec.Subnets) > 0 || len(spec.Options) > 0 || spec.Internal || spec.Open || spec.IPv6 || spec.MTU != 0 {
			return fault.Invalid("a configuration list says everything but name and labels: leave the other fields empty")
		}
		return nil
	}
	for i := range spec.Subnets {
		if err := spec.Subnets[i].check(); err != nil {
			return err
		}
		for _, other := range spec.Subnets[:i] {
			if other.Prefix.Overlaps(spec.Subnets[i].Prefix) {
				return fault.Invalid("the subnets %s and %s overlap", other.Prefix, spec.Subnets[i].Prefix)
			}
			if other.Prefix.Addr().Is4() == spec.Subnets[i].Prefix.Addr().Is4() {
				return fault.Invalid("the subnets %s and %s are of one family: a network has one of each", other.Prefix, spec.Subnets[i].Prefix)
			}
		}
	}
	return spec.checkOptions()
}

// Options of the built-in drivers. Docker's long names are accepted for what
// they mean.
const (
	optPrefix = "bridge.prefix" // of the bridge's name, instead of "amp<id>"
	optParent = "parent"        // macvlan: interface of the host
	optMode   = "mode"          // macvlan: bridge, private, vepa, passthru
)

var aliases = map[string]string{"macvlan_mode": optMode, "com.docker.network.bridge.name": "bridge.name", "com.docker.network.driver.mtu": "mtu"}

func (spec *Spec) checkOptions() error {
	var known map[string]bool
	switch spec.Driver {
	case "", "bridge":
		known = map[string]bool{"bridge.name": true, "mtu": true}
	case "macvlan":
		known = map[string]bool{optParent: true, optMode: true, "mtu": true}
		if spec.Internal || spec.Open {
			return fault.Invalid("a macvlan network is as open as the network of its parent interface: it can be neither internal nor open")
		}
	default:
		return nil // the plugin knows
	}
	opts := map[string]string{}
	for k, v := range spec.Options {
		if a := aliases[k]; a != "" {
			k = a
		}
		if !known[k] {
			return fault.Invalid("the driver %s has no option %q; it knows %s", spec.driver(), k, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		opts[k] = v
	}
	if v, ok := opts["mtu"]; ok {
		mtu, err := strconv.Atoi(v)
		if err != nil || mtu < 68 || mtu > 65535 {
			return fault.Invalid("option mtu %q: give 68 to 65535 bytes", v)
		}
		spec.MTU = mtu
		delete(opts, "mtu")
	}
	if name, ok := opts["bridge.name"]; ok && (name == "" || len(name) > 15 || strings.ContainsAny(name, "/: \t")) {
		return fault.Invalid("option bridge.name %q: give 1 to 15 characters without space, '/' and ':'", name)
	}
	spec.Options = opts
	return nil
}

func (spec *Spec) driver() string {
	if spec.Driver == "" {
		return "bridge"
	}
	return spec.Driver
}

// check completes and validates a subnet.
func (n *Subnet) check() error {
	if !n.Prefix.IsValid() {
		return fault.Invalid("the subnet is empty: give one like 10.1.2.0/24")
	}
	if n.Prefix != n.Prefix.Masked() {
		return fault.Invalid("the subnet %s has bits set below its mask: use %s", n.Prefix, n.Prefix.Masked())
	}
	a := n.Prefix.Addr()
	if bits := a.BitLen() - n.Prefix.Bits(); bits < 2 {
		return fault.Invalid("the subnet %s is too small: it needs room for a gateway and a container, /%d at most", n.Prefix, a.BitLen()-2)
	}
	if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() || n.Prefix.Bits() == 0 {
		return fault.Invalid("the subnet %s is not for networks of one's own: use a private one, such as 10.0.0.0/8 or fd00::/8 contain", n.Prefix)
	}
	if n.Range.IsValid() && (n.Range != n.Range.Masked() || !n.holds(n.Range.Addr()) || n.Range.Bits() < n.Prefix.Bits()) {
		return fault.Invalid("the address range %s does not lie in the subnet %s", n.Range, n.Prefix)
	}
	if !n.Gateway.IsValid() {
		n.Gateway = a.Next()
	}
	for _, addr := range append([]netip.Addr{n.Gateway}, n.Reserved...) {
		if !n.usable(addr) {
			return fault.Invalid("the address %s cannot be used in the subnet %s", addr, n.Prefix)
		}
	}
	return nil
}

func (n *Subnet) holds(a netip.Addr) bool { return a.IsValid() && n.Prefix.Contains(a) }

// usable says whether an interface may have that address: neither the subnet's
// own nor, for IPv4, the broadcast address.
func (n *Subnet) usable(a netip.Addr) bool {
	return n.holds(a) && a != n.Prefix.Addr() && (a.Is6() || a != last(n.Prefix))
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

type object = map[string]any

// plugins is the network as CNI plugins are told of it.
func (n *Network) plugins() ([]json.RawMessage, error) {
	var ranges []any
	routes := []any{}
	for _, sub := range n.Subnets {
		r := object{"subnet": sub.Prefix.String()}
		if n.Driver != "macvlan" || sub.Gateway.IsValid() {
			r["gateway"] = sub.Gateway.String()
		}
		if sub.Range.IsValid() {
			// The first and last address of an inner range can be used.
			start, end := sub.Range.Addr(), last(sub.Range)
			if start == sub.Prefix.Addr() {
				start = start.Next()
			}
			if end == last(sub.Prefix) && end.Is4() {
				end = end.Prev()
			}
			r["rangeStart"], r["rangeEnd"] = start.String(), end.String()
		}
		ranges = append(ranges, []any{r})
		if !n.Internal {
			routes = append(routes, object{"dst": map[bool]string{true: "0.0.0.0/0", false: "::/0"}[sub.Prefix.Addr().Is4()]})
		}
	}
	ipam := object{"type": "host-local", "ranges": ranges, "routes": routes}
	var all []any
	switch n.Driver {
	case "bridge":
		firewall := object{"type": "firewall", "ingressPolicy": "same-bridge"}
		if n.Open {
			firewall["ingressPolicy"] = "open"
		}
		if n.Internal {
			firewall["internal"] = true
		}
		all = []any{
			object{"type": "bridge", "bridge": n.Bridge, "isGateway": true, "ipMasq": !n.Internal, "hairpinMode": true, "mtu": n.MTU,
				"capabilities": object{"ips": true, "mac": true}, "ipam": ipam},
			object{"type": "portmap", "capabilities": object{"portMappings": true}},
			firewall,
			object{"type": "bandwidth", "capabilities": object{"bandwidth": true}},
		}
	case "macvlan":
		m := object{"type": "macvlan", "capabilities": object{"ips": true, "mac": true}, "ipam": ipam}
		if n.MTU > 0 {
			m["mtu"] = n.MTU
		}
		if p := n.Options[optParent]; p != "" {
			m["master"] = p
		}
		if mode := n.Options[optMode]; mode != "" {
			m["mode"] = mode
		}
		all = []any{m, object{"type": "bandwidth", "capabilities": object{"bandwidth": true}}}
	default:
		p := object{"type": n.Driver}
		for k, v := range n.Options {
			if json.Valid([]byte(v)) {
				p[k] = json.RawMessage(v)
			} else {
				p[k] = v
			}
		}
		if len(n.Subnets) > 0 {
			p["ipam"] = ipam
		}
		all = []any{p}
	}
	raw := make([]json.RawMessage, 0, len(all))
	for _, p := range all {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encode a plugin's configuration: %w", err)
		}
		raw = append(raw, b)
	}
	return raw, nil
}
