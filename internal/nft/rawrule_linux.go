package nft

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rawRule is a rule of anybody. The library's reader leaves out expressions
// that it does not know, so that a condition would look like none.
type rawRule struct {
	family byte
	handle uint64
	exprs  []rawExpr // without counters, logs and comments, which decide nothing
}

type rawExpr struct {
	name string
	data []byte
}

// rulesOf reads a chain.
func rulesOf(netns int, table *nftables.Table, chain string) ([]rawRule, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_RULE_TABLE, table.Name)
	e.String(unix.NFTA_RULE_CHAIN, chain)
	attrs, err := e.Encode()
	if err != nil {
		return nil, err
	}
	var rules []rawRule
	for range tries {
		msgs, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
			Data:   append([]byte{byte(table.Family), unix.NFNETLINK_V0, 0, 0}, attrs...),
		})
		if err != nil {
			return nil, err
		}
		rules = rules[:0]
		whole := true
		for _, m := range msgs {
			whole = whole && m.Header.Flags&netlink.DumpInterrupted == 0
			if len(m.Data) < 4 {
				continue
			}
			r := rawRule{family: byte(table.Family)}
			if err := r.decode(m.Data[4:]); err != nil {
				return nil, err
			}
			rules = append(rules, r)
		}
		if whole {
			break
		}
	}
	return rules, nil
}

func (r *rawRule) decode(data []byte) error {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_RULE_HANDLE:
			r.handle = d.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			d.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					list.Nested(r.decodeExpr)
				}
				return nil
			})
		}
	}
	return d.Err()
}

func (r *rawRule) decodeExpr(d *netlink.AttributeDecoder) error {
	var e rawExpr
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_EXPR_NAME:
			e.name = d.String()
		case unix.NFTA_EXPR_DATA:
			e.data = d.Bytes()
		}
	}
	if e.name != "counter" && e.name != "log" {
		r.exprs = append(r.exprs, e)
	}
	return nil
}

// always is the verdict of a rule that has no condition.
func (r *rawRule) always() (expr.Verdict, bool) {
	if len(r.exprs) != 1 {
		return expr.Verdict{}, false
	}
	return r.verdict(r.exprs[0])
}

// verdict understands a rejection as a drop.
func (r *rawRule) verdict(e rawExpr) (expr.Verdict, bool) {
	var v expr.Verdict
	switch e.name {
	case "immediate":
		var im expr.Immediate
		if expr.Unmarshal(r.family, e.data, &im) != nil || im.Register != unix.NFT_REG_VERDICT {
			return v, false
		}
		return v, expr.Unmarshal(r.family, e.data, &v) == nil
	case "reject":
		return expr.Verdict{Kind: expr.VerdictDrop}, true
	case "target":
		name, ok := targetName(e.data)
		return expr.Verdict{Kind: expr.VerdictDrop}, ok && (name == "REJECT" || name == "DROP")
	}
	return v, false
}

func targetName(data []byte) (string, bool) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return "", false
	}
	for d.Next() {
		if d.Type() == unix.NFTA_TARGET_NAME {
			return d.String(), true
		}
	}
	return "", false
}

// pass is a rule that accepts what comes from, or goes to, an interface, or
// those whose names begin so.
type pass struct {
	key    expr.MetaKey
	name   string
	prefix bool
}

func (p pass) covers(iface string) bool {
	return p.name == iface || p.prefix && strings.HasPrefix(iface, p.name)
}

// passes tells such rules, without any further condition.
func (r *rawRule) passes() (pass, bool) {
	if len(r.exprs) != 3 || r.exprs[0].name != "meta" || r.exprs[1].name != "cmp" {
		return pass{}, false
	}
	var m expr.Meta
	var c expr.Cmp
	v, isVerdict := r.verdict(r.exprs[2])
	if !isVerdict || v.Kind != expr.VerdictAccept ||
		expr.Unmarshal(r.family, r.exprs[0].data, &m) != nil || expr.Unmarshal(r.family, r.exprs[1].data, &c) != nil {
		return pass{}, false
	}
	if m.Key != expr.MetaKeyIIFNAME && m.Key != expr.MetaKeyOIFNAME || c.Op != expr.CmpOpEq {
		return pass{}, false
	}
	name, _, whole := bytes.Cut(c.Data, []byte{0})
	return pass{m.Key, string(name), !whole}, true
}
