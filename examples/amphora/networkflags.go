package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/network"
)

// defineNetwork are the networks, names and ports.
func (s *specFlags) defineNetwork(f *flags) {
	connect := func(n string) error {
		e, err := parseEndpoint(n)
		s.Networks = append(s.Networks, e)
		return err
	}
	each(f, "network", "Connect to a `network`: its name, bridge (default), none, host, container:NAME, or name=NAME,alias=DB,ip=ADDRESS,gw-priority=N,...", connect)
	each(f, "net", "The same as --network (`network`)", connect)
	defineEndpoint(f, &s.first, "network-alias")
	each(f, "add-host", "Add a custom host-to-IP mapping (`host:ip`); the ip host-gateway is this machine's", func(h string) error {
		if name, addr, ok := strings.Cut(h, "="); ok {
			h = name + ":" + addr
		}
		s.ExtraHosts = append(s.ExtraHosts, h)
		return nil
	})
	each(f, "p,publish", "Publish a `port` of the container: [[address:]host:]port[/protocol]", func(p string) error {
		ports, err := parsePublish(p)
		s.Ports = append(s.Ports, ports...)
		return err
	})
	f.bool(&s.PublishAll, "P,publish-all", "Publish all exposed ports to random ports")
	f.list(&s.Expose, "expose", "Expose a port or a range of ports")
	f.list(&s.DNS.Servers, "dns", "Set custom DNS servers")
	f.list(&s.DNS.Search, "dns-search", "Set custom DNS search domains")
	f.list(&s.DNS.Options, "dns-option", "Set DNS options")
}

// defineEndpoint defines flags for the properties of one connection.
func defineEndpoint(f *flags, e *network.Endpoint, alias string) {
	set := func(key string) func(string) error {
		return func(v string) error { return endpointOption(e, key, v) }
	}
	each(f, alias, "Add a further `name` of the container on the network", set("alias"))
	each(f, "ip", "IPv4 `address` (e.g., 172.30.100.104)", set("ip"))
	each(f, "ip6", "IPv6 `address` (e.g., 2001:db8::33)", set("ip6"))
	each(f, "mac-address", "MAC `address` (e.g., 92:d0:c6:0a:29:33)", set("mac-address"))
	each(f, "bandwidth-in", "Limit what the container receives (`bytes` per second)", set("bandwidth-in"))
	each(f, "bandwidth-out", "Limit what the container sends (`bytes` per second)", set("bandwidth-out"))
}

// parseEndpoint reads --network: a name, or key=value pairs.
func parseEndpoint(s string) (e network.Endpoint, err error) {
	if !strings.Contains(s, "=") {
		return network.Endpoint{Network: s}, nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		key, v, ok := strings.Cut(pair, "=")
		if !ok {
			return e, fmt.Errorf("%q: want key=value", pair)
		}
		if err := endpointOption(&e, strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(v)); err != nil {
			return e, err
		}
	}
	if e.Network == "" {
		return e, errors.New("it says nothing of the network's name: add name=NAME")
	}
	return e, nil
}

// endpointOption sets one property of a connection.
func endpointOption(e *network.Endpoint, key, v string) (err error) {
	var n int64
	switch key {
	case "name":
		e.Network = v
	case "alias":
		e.Aliases = append(e.Aliases, v)
	case "ip", "ip6":
		addr, err := netip.ParseAddr(v)
		if err != nil || addr.Is4() != (key == "ip") {
			return fmt.Errorf("%q is no IPv%s address", v, map[string]string{"ip": "4", "ip6": "6"}[key])
		}
		e.Addresses = append(e.Addresses, addr)
	case "mac-address":
		e.MAC = v
	case "gw-priority":
		e.Priority, err = parseNumber[int](v)
	case "bandwidth-in":
		n, err = parseBytes(v)
		e.Bandwidth.Ingress = uint64(n)
	case "bandwidth-out":
		n, err = parseBytes(v)
		e.Bandwidth.Egress = uint64(n)
	default:
		err = fmt.Errorf("unknown key %q: use name, alias, ip, ip6, mac-address, gw-priority, bandwidth-in or bandwidth-out", key)
	}
	return err
}

// connectFirst lays the flags that describe a connection (--ip, --network-alias
// and so on) over the first network.
func (s *specFlags) connectFirst() error {
	o := s.first
	if len(s.Networks) == 0 {
		if len(o.Aliases) == 0 && len(o.Addresses) == 0 && o.MAC == "" && o.Bandwidth == (network.Bandwidth{}) {
			return nil
		}
		s.Networks = []network.Endpoint{{Network: network.Bridge}}
	}
	e := &s.Networks[0]
	for _, twice := range []struct {
		flag string
		is   bool
	}{
		{"--network-alias", len(o.Aliases) > 0 && len(e.Aliases) > 0},
		{"--ip and --ip6", len(o.Addresses) > 0 && len(e.Addresses) > 0},
		{"--mac-address", o.MAC != "" && e.MAC != ""},
		{"--bandwidth-in and --bandwidth-out", o.Bandwidth != (network.Bandwidth{}) && e.Bandwidth != (network.Bandwidth{})},
	} {
		if twice.is {
			return fmt.Errorf("conflicting options: %s cannot be given both as flags and in --network", twice.flag)
		}
	}
	e.Aliases = append(e.Aliases, o.Aliases...)
	e.Addresses = append(e.Addresses, o.Addresses...)
	if o.MAC != "" {
		e.MAC = o.MAC
	}
	if o.Bandwidth != (network.Bandwidth{}) {
		e.Bandwidth = o.Bandwidth
	}
	return e.Validate()
}

// dropPorts leaves out what cannot be published, with Docker's warning.
func (s *specFlags) dropPorts() (warning string) {
	if len(s.Networks) == 0 || s.Networks[0].Network != network.Host || len(s.Ports) == 0 && !s.PublishAll {
		return ""
	}
	if len(s.Ports) > 0 {
		warning = "WARNING: Published ports are discarded when using host network mode"
	}
	s.Ports, s.PublishAll = nil, false
	return warning
}

// parsePublish reads -p in its short form, or in its long one:
// published=8080,target=80,protocol=tcp.
func parsePublish(s string) ([]network.Port, error) {
	if !strings.Contains(s, "=") {
		return network.ParsePort(s)
	}
	var target, published, protocol, address string
	for pair := range strings.SplitSeq(s, ",") {
		switch key, v, _ := strings.Cut(pair, "="); key {
		case "target":
			target = v
		case "published":
			published = v
		case "protocol":
			protocol = v
		case "host_ip":
			address = v
		case "mode", "app_protocol": // of Swarm's services, and a hint: they change nothing here
		default:
			return nil, fmt.Errorf("unknown key %q: use target, published, protocol or host_ip", key)
		}
	}
	if _, err := strconv.ParseUint(target, 10, 16); err != nil {
		return nil, fmt.Errorf("target %q: give the container's port", target)
	}
	short := target
	if published != "" || address != "" {
		short = published + ":" + short
	}
	if strings.Contains(address, ":") {
		address = "[" + strings.Trim(address, "[]") + "]"
	}
	if address != "" {
		short = address + ":" + short
	}
	if protocol != "" {
		short += "/" + protocol
	}
	return network.ParsePort(short)
}
