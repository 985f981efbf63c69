package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

type chain struct {
	name     string
	kind     nftables.ChainType // "": entered by jumps only
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// Numbers of the kernel that have no name in the packages we use.
const (
	ipsDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
	rtnLocal  = 2      // RTN_LOCAL of linux/rtnetlink.h
)

// chains are all rules there ever are, in the order in which packets meet them.
func chains(s *sets) []chain {
	return []chain{
		{name: "raw", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityRaw, rules: rawRules(s)},
		{name: "ports", rules: portRules(s)},
		{name: "prerouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityNATDest, rules: [][]expr.Any{
			rule(local(), jump("ports")),
		}},
		{name: "output", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityNATDest, rules: [][]expr.Any{
			// There is no route_localnet for IPv6: [::1] is served by a socket.
			rule(dst(expr.CmpOpEq, netip.MustParsePrefix("::1/128")), verdict(expr.VerdictReturn)),
			rule(local(), jump("ports")),
		}},
		{name: "postrouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: *nftables.ChainPriorityNATSource, rules: sourceRules(s)},
		{name: "forward", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: *nftables.ChainPriorityFilter, rules: [][]expr.Any{
			rule(established(), accept()),
			rule(meta(expr.MetaKeyIIFNAME, 1), meta(expr.MetaKeyOIFNAME, 2), in(s.pairs), accept()),
			rule(iif(s.open), oif(s.open), accept()),
			rule(iif(s.internal), drop()),
			rule(oif(s.internal), drop()),
			rule(translated(), accept()),
			rule(oif(s.bridges), drop()),
		}},
	}
}

// rawRules keep containers from what only this host may do. The first closes
// what route_localnet on a bridge opens: without it a container reaches the
// host's loopback services. The others drop a source address that is not
// reached through the bridge it came from; spared are the addresses of hosts
// that have none yet, and link-local ones, which every interface has.
func rawRules(s *sets) [][]expr.Any {
	missing := []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
	return [][]expr.Any{
		rule(iif(s.bridges), dst(expr.CmpOpEq, netip.MustParsePrefix("127.0.0.0/8")), drop()),
		rule(iif(s.bridges), src(expr.CmpOpNeq, netip.MustParsePrefix("0.0.0.0/32")), missing, drop()),
		rule(iif(s.bridges), src(expr.CmpOpNeq, netip.MustParsePrefix("::/128")),
			src(expr.CmpOpNeq, netip.MustParsePrefix("fe80::/10"))[2:], missing, drop()),
	}
}

// portRules translate what is addressed to this host. A map's key and value
// lie in consecutive registers of 4 bytes, each part rounded up: 1 is the name
// of the first four of them and 9, 10 of the second and third; 2 that of the
// fifth to eighth and 13 of the sixth.
func portRules(s *sets) [][]expr.Any {
	return [][]expr.Any{
		rule(nfproto(v4), load(16, 4, 1), meta(expr.MetaKeyL4PROTO, 9), dport(10), translate(s.host[v4], v4)),
		rule(nfproto(v4), meta(expr.MetaKeyL4PROTO, 1), dport(9), translate(s.any[v4], v4)),
		rule(nfproto(v6), load(24, 16, 1), meta(expr.MetaKeyL4PROTO, 2), dport(13), translate(s.host[v6], v6)),
		rule(nfproto(v6), meta(expr.MetaKeyL4PROTO, 1), dport(9), translate(s.any[v6], v6)),
	}
}

func translate(m *nftables.Set, f int) []expr.Any {
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 9}
	if f == v6 {
		nat.Family, nat.RegProtoMin = unix.NFPROTO_IPV6, 2
	}
	return []expr.Any{
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		nat,
	}
}

// sourceRules give packets an address of this host where the answer would not
// find its way back: to a published port from a container (the other one would
// answer directly), from 127.0.0.1, and to the world.
func sourceRules(s *sets) [][]expr.Any {
	var rules [][]expr.Any
	for f, size := range []uint32{4, 16} {
		from, to := uint32(12), uint32(16)
		if f == v6 {
			from, to = 8, 24
		}
		rules = append(rules, rule(nfproto(f), load(from, size, 1), in(s.nets[f]),
			load(to, size, 1), in(s.nets[f]), translated(), masquerade()))
	}
	rules = append(rules,
		rule(oif(s.bridges), src(expr.CmpOpEq, netip.MustParsePrefix("127.0.0.0/8")), translated(), masquerade()),
		rule(dst(expr.CmpOpEq, netip.MustParsePrefix("224.0.0.0/4")), verdict(expr.VerdictReturn)),
		rule(dst(expr.CmpOpEq, netip.MustParsePrefix("ff00::/8")), verdict(expr.VerdictReturn)),
		// Not to our own networks either, by whatever bridge: the table may be
		// that of a Root that is gone, and its subnets another Root's by now.
		rule(nfproto(v4), load(12, 4, 1), in(s.masq[v4]), load(16, 4, 1), notIn(s.masq[v4]), notOif(s.bridges), masquerade()),
		rule(nfproto(v6), load(8, 16, 1), in(s.masq[v6]), load(24, 16, 1), notIn(s.masq[v6]), notOif(s.bridges), masquerade()),
	)
	return rules
}

// rule joins the parts of one rule.
func rule(parts ...[]expr.Any) []expr.Any {
	var r []expr.Any
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

func meta(key expr.MetaKey, register uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}}
}

func equal(data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

// in looks register 1, and those after it for longer keys, up in a set.
func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

func iif(s *nftables.Set) []expr.Any { return rule(meta(expr.MetaKeyIIFNAME, 1), in(s)) }
func oif(s *nftables.Set) []expr.Any { return rule(meta(expr.MetaKeyOIFNAME, 1), in(s)) }

func notIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: true}}
}

func notOif(s *nftables.Set) []expr.Any { return rule(meta(expr.MetaKeyOIFNAME, 1), notIn(s)) }

// nfproto must precede what reads a network header: inet has both.
func nfproto(f int) []expr.Any {
	return rule(meta(expr.MetaKeyNFPROTO, 1), equal([]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}[f]))
}

func load(offset, size, register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}}
}

// dport is at the same place in all protocols that have ports.
func dport(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

func src(op expr.CmpOp, p netip.Prefix) []expr.Any { return address(op, p, 12, 8) }
func dst(op expr.CmpOp, p netip.Prefix) []expr.Any { return address(op, p, 16, 24) }

// address compares an address of the network header with a prefix; its first
// two expressions are the test of the family.
func address(op expr.CmpOp, p netip.Prefix, offset4, offset6 uint32) []expr.Any {
	f, offset := v4, offset4
	if p.Addr().Is6() {
		f, offset = v6, offset6
	}
	size := uint32(p.Addr().BitLen() / 8)
	r := rule(nfproto(f), load(offset, size, 1))
	if !p.IsSingleIP() {
		mask := make([]byte, size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		r = append(r, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)})
	}
	return append(r, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// local matches what is addressed to this host, by any of its addresses.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(rtnLocal)},
	}
}

func established() []expr.Any {
	return ct(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func translated() []expr.Any { return ct(expr.CtKeySTATUS, ipsDstNAT) }

func ct(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func accept() []expr.Any                       { return verdict(expr.VerdictAccept) }
func drop() []expr.Any                         { return verdict(expr.VerdictDrop) }
func masquerade() []expr.Any                   { return []expr.Any{&expr.Masq{}} }

func jump(to string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to}}
}
