package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// dnsTable is the table in a container's namespace; it goes with that.
const dnsTable = "amphora_dns"

// resolver is the address at which containers ask for names.
var resolver = netip.MustParsePrefix("127.0.0.11/32")

// RedirectDNS leads what is sent to 127.0.0.11 port 53 in the network namespace
// with that descriptor (0: the thread's) to a server's ports there. So the
// container can have a server of its own on port 53. The same again, or with
// other ports, replaces what was; a port of 0 leaves that protocol alone. The
// server must be an IPv4 address.
//
// It translates rather than redirects, as a redirection would go to 127.0.0.1.
func RedirectDNS(netns int, server netip.Addr, udp, tcp uint16) error {
	if !server.Is4() {
		return fault.Invalid("name server %s: needs an IPv4 address", server)
	}
	table := &nftables.Table{Name: dnsTable, Family: nftables.TableFamilyIPv4}
	b := newBatch(netns, table)
	if b.err != nil {
		return explain(b.err)
	}
	var rules [][]expr.Any
	for _, to := range []struct {
		protocol byte
		port     uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		if to.port == 0 {
			continue
		}
		rules = append(rules, rule(dst(expr.CmpOpEq, resolver)[2:], // of its family anyway
			meta(expr.MetaKeyL4PROTO, 1), equal(to.protocol), dport(1), equal(0, 53), []expr.Any{
				&expr.Immediate{Register: 1, Data: server.AsSlice()},
				&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, to.port)},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
			}))
	}
	b.conn.AddTable(table)
	b.chain(chain{name: "output", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityNATDest, rules: rules})
	if err := explain(b.send()); err != nil {
		return fmt.Errorf("redirect %s: %w", resolver.Addr(), err)
	}
	return nil
}
