package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/dns"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// hostGateway in an extra host stands for this host's address.
const hostGateway = "host-gateway"

// hosts is the container's /etc/hosts.
func (s *shim) hosts() ([]byte, error) {
	var b bytes.Buffer
	if s.c.Network == "host" {
		data, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fault.Opaque(err)
		}
		b.Write(data)
		if len(data) > 0 && data[len(data)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	f := &s.cfg.Files
	for _, e := range f.ExtraHosts {
		name, addr, _ := strings.Cut(e, ":")
		if addr == hostGateway {
			if addr = s.wires.gateway(); addr == "" {
				return nil, fault.Invalid("extra host %s: the container has no network with a gateway, which host-gateway would be", e)
			}
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
	}
	b.WriteString(s.wires.ownNames(f.Hostname, f.Domainname))
	return b.Bytes(), nil
}

// writeHosts brings /etc/hosts up to date with the container's addresses.
func (s *shim) writeHosts() error {
	if slices.Contains(s.cfg.Files.Skip, "hosts") {
		return nil
	}
	data, err := s.hosts()
	if err != nil {
		return err
	}
	return fault.Opaque(os.WriteFile(s.root.Path(s.c.ID, "hosts"), data, 0o644)) // in place: it is mounted
}

// resolvConf is the host's unless the caller gave servers of his own. With a
// resolver of ours the servers are asked by that one.
func (s *shim) resolvConf() ([]byte, error) {
	f := &s.cfg.Files
	servers, options := f.DNS, f.DNSOptions
	if s.wires != nil {
		servers = []string{"127.0.0.11"}
	}
	var b bytes.Buffer
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Opaque(err)
	}
	dots := false
	for line := range strings.Lines(string(own)) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "nameserver" && len(servers) > 0 || key == "search" && len(f.DNSSearch) > 0 || key == "options" && len(options) > 0 {
			continue
		}
		dots = dots || key == "options" && strings.Contains(rest, "ndots:")
		b.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(f.DNSSearch) > 0 && f.DNSSearch[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(f.DNSSearch, " "))
	}
	for _, o := range options {
		dots = dots || strings.HasPrefix(o, "ndots:")
	}
	if s.wires != nil && !dots { // as Docker: names of containers need no dot
		options = append(slices.Clone(options), "ndots:0")
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes(), nil
}

// upstream is whom the resolver asks for names that are no container's.
func upstream(f *record.Files) (dns.Upstream, error) {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return dns.Upstream{}, fault.Opaque(err)
	}
	conf := dns.ParseResolvConf(own)
	up := dns.Upstream{Servers: conf.Servers, Host: true, Options: conf.Options}
	if len(f.DNS) > 0 {
		up.Servers, up.Host = f.DNS, false
	}
	if len(f.DNSOptions) > 0 {
		up.Options = f.DNSOptions
	}
	return up, nil
}
