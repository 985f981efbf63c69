package nft

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// sealChain is the chain of Seal. writeBase leaves it alone.
const sealChain = "seal"

// anyPrefix begins the names of the bridges of all Roots.
const anyPrefix = "amp"

// Keys of linux/netfilter/nf_tables.h that the library has no name for: the
// kind of link, such as "bridge".
const (
	metaIifKind expr.MetaKey = 26
	metaOifKind expr.MetaKey = 27
)

// Seal drops what this host forwards between interfaces that are neither ours
// nor virtual. It is for when we turned forwarding on: the machine must not
// become a router between its networks by that. What goes from or to the
// bridges of any Root passes, and also what goes from or to a bridge, veth, tun
// or tap, so that another container engine or virtual machines that start later
// find a host that forwards. The same again changes nothing; Reset keeps it,
// Drop takes it away, and `nft flush ruleset` too.
func (t *Table) Seal() error {
	return t.op("seal", t.apply(func(b *batch, _ *sets) { b.chain(seal()) }))
}

func seal() chain {
	c := chain{name: sealChain, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: *nftables.ChainPriorityFilter}
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		c.rules = append(c.rules, rule(meta(key, 1), equal([]byte(anyPrefix)...), accept()))
	}
	for _, key := range []expr.MetaKey{metaIifKind, metaOifKind} {
		for _, kind := range []string{"bridge", "veth", "tun"} {
			c.rules = append(c.rules, rule(meta(key, 1), equal(ifname(kind)...), accept()))
		}
	}
	c.rules = append(c.rules, drop())
	return c
}

func (t *Table) sealed() (bool, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(t.NetNS))
	if err != nil {
		return false, err
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return false, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table != nil && c.Table.Name == t.Name && c.Name == sealChain {
			return true, nil
		}
	}
	return false, nil
}
