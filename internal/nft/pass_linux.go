package nft

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// passKeys are the two directions of what our bridges forward.
var passKeys = [...]expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}

// filterTables are those of iptables-nft and ip6tables-nft.
func filterTables() []*nftables.Table {
	return []*nftables.Table{
		{Name: "filter", Family: nftables.TableFamilyIPv4},
		{Name: "filter", Family: nftables.TableFamilyIPv6},
	}
}

// PassForeign has the FORWARD chains of iptables-nft let our bridges pass, where
// their policy is drop (Docker sets that when it turns forwarding on, ufw
// always): an accept in our table does not save a packet from another's drop.
// What is filtered is decided in our table alone. The rules are those that
// iptables itself would write, and Drop takes them away.
func (t *Table) PassForeign() error {
	all, err := listChains(t.NetNS)
	if err != nil {
		return t.op("list chains", err)
	}
	for _, table := range filterTables() {
		i := slices.IndexFunc(all, func(c *nftables.Chain) bool {
			return c.Table != nil && c.Table.Name == table.Name && c.Table.Family == table.Family && c.Name == "FORWARD" && forwards(c)
		})
		if i < 0 || !dropsByPolicy(all[i]) {
			continue
		}
		if err := t.pass(table); err != nil {
			return t.op("pass the policy of "+familyName(table.Family)+" filter FORWARD", err)
		}
	}
	return nil
}

func (t *Table) pass(table *nftables.Table) error {
	have, err := t.passing(table)
	if err != nil || len(have[0]) > 0 && len(have[1]) > 0 {
		return err
	}
	b := newBatch(t.NetNS, table)
	if b.err != nil {
		return b.err
	}
	for i, key := range passKeys {
		if len(have[i]) == 0 {
			b.conn.InsertRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "FORWARD", Table: table},
				Exprs: rule(meta(key, 1), equal([]byte(t.Prefix)...), []expr.Any{&expr.Counter{}}, accept())})
		}
	}
	if err := b.send(); !errors.Is(err, syscall.ENOENT) { // else the chain is gone
		return err
	}
	return nil
}

// unpass takes the rules of PassForeign away.
func (t *Table) unpass() error {
	var errs []error
	for _, table := range filterTables() {
		have, err := t.passing(table)
		errs = append(errs, err)
		for _, handle := range slices.Concat(have[0], have[1]) {
			// One by one: an administrator may delete one at the same time.
			b := newBatch(t.NetNS, table)
			if b.err == nil {
				b.err = b.conn.DelRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "FORWARD", Table: table}, Handle: handle})
			}
			if err := b.send(); err != nil && !errors.Is(err, syscall.ENOENT) {
				errs = append(errs, fmt.Errorf("delete rule %d of %s filter FORWARD: %w", handle, familyName(table.Family), err))
			}
		}
	}
	return errors.Join(errs...)
}

// passing are the handles of our rules in FORWARD, for each of passKeys.
func (t *Table) passing(table *nftables.Table) (handles [len(passKeys)][]uint64, err error) {
	rules, err := rulesOf(t.NetNS, table, "FORWARD")
	if errors.Is(err, syscall.ENOENT) {
		return handles, nil
	}
	for _, r := range rules {
		p, ok := r.passes()
		if i := slices.Index(passKeys[:], p.key); ok && p.prefix && p.name == t.Prefix {
			handles[i] = append(handles[i], r.handle)
		}
	}
	return handles, err
}
