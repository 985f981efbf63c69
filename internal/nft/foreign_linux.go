package nft

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Foreign are the chains of others that drop what is forwarded from or to
// bridges, in the network namespace with that descriptor (0: the thread's);
// without names, any whose names begin with "amp". A chain counts when its
// policy or an unconditional rule drops or rejects, also in a chain that it
// always jumps to, and nothing before that accepts all of the bridges by name,
// in both directions. Rules with other conditions are not judged.
//
// Chains of iptables-legacy are Legacy's; those that BPF programs attach cannot
// be seen.
func Foreign(netns int, bridges ...string) ([]Chain, error) {
	if len(bridges) == 0 {
		bridges = []string{anyPrefix}
	}
	all, err := listChains(netns)
	if err != nil {
		return nil, explain(fmt.Errorf("list the chains of nftables: %w", err))
	}
	var found []Chain
	for _, c := range all {
		if !forwards(c) || strings.HasPrefix(c.Table.Name, "amphora_") {
			continue
		}
		w := newWalk(netns, c.Table, bridges)
		end, err := w.chain(c.Name, 0)
		if err != nil {
			return nil, explain(fmt.Errorf("read chain %s of table %s: %w", c.Name, c.Table.Name, err))
		}
		if end == goesOn && dropsByPolicy(c) {
			end, w.why = drops, byPolicy
		}
		if end != drops || len(w.left()) == 0 {
			continue
		}
		f := Chain{Family: familyName(c.Table.Family), Table: c.Table.Name, Name: c.Name, Why: w.why}
		f.Command = command(f, all, w.left())
		found = append(found, f)
	}
	return found, nil
}

// Passable says whether PassForeign opens the chain.
func (c *Chain) Passable() bool {
	return (c.Family == "ip" || c.Family == "ip6") && c.Table == "filter" && c.Name == "FORWARD" && c.Why == byPolicy
}

const byPolicy = "its policy is drop"

func listChains(netns int) ([]*nftables.Chain, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil
	}
	return chains, err
}

// forwards tells base chains of the forward hook that see IP packets.
func forwards(c *nftables.Chain) bool {
	return c.Table != nil && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && familyName(c.Table.Family) != ""
}

func dropsByPolicy(c *nftables.Chain) bool {
	return c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	}
	return ""
}

// command is what an administrator runs so that the chain lets bridges pass:
// all of ours by their common prefix, those with other names one by one.
func command(c Chain, all []*nftables.Chain, bridges []string) string {
	names := prefixes(bridges)
	var parts []string
	switch {
	case c.Table == "firewalld":
		for _, n := range names {
			parts = append(parts, "firewall-cmd --permanent --zone=trusted --add-interface="+plus(n))
		}
		return strings.Join(append(parts, "firewall-cmd --reload"), " && ")
	case c.Table == "filter" && c.Name == "FORWARD" && c.Family != "inet":
		tool, chain := "iptables", "FORWARD"
		if c.Family == "ip6" {
			tool = "ip6tables"
		}
		for _, other := range all { // what is there survives a restart of Docker
			if other.Name == "DOCKER-USER" && other.Table != nil && other.Table.Name == "filter" && familyName(other.Table.Family) == c.Family {
				chain = other.Name
			}
		}
		return iptables(tool, chain, names)
	}
	insert := fmt.Sprintf("insert rule %s %s %s", c.Family, c.Table, c.Name)
	for _, n := range names {
		parts = append(parts, fmt.Sprintf(`%[1]s iifname "%[2]s" accept; %[1]s oifname "%[2]s" accept`, insert, n))
	}
	return "nft '" + strings.Join(parts, "; ") + "'"
}

func iptables(tool, chain string, names []string) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%[1]s -I %[2]s -i %[3]s -j ACCEPT && %[1]s -I %[2]s -o %[3]s -j ACCEPT", tool, chain, plus(n)))
	}
	return strings.Join(parts, " && ")
}

// prefixes are patterns for names of bridges, as nft writes them.
func prefixes(bridges []string) (names []string) {
	for _, b := range bridges {
		if strings.HasPrefix(b, anyPrefix) {
			b = anyPrefix + "*"
		}
		if !slices.Contains(names, b) {
			names = append(names, b)
		}
	}
	return names
}

// plus writes a pattern as iptables and firewalld do.
func plus(name string) string { return strings.Replace(name, "*", "+", 1) }

// How a chain ends for a packet that no condition matches.
type ending int

const (
	goesOn ending = iota
	accepts
	drops
)

// walk follows the unconditional rules of a base chain.
type walk struct {
	netns   int
	table   *nftables.Table
	bridges []string
	in, out map[string]bool // bridges from which, and to which, all was accepted
	why     string
}

func newWalk(netns int, table *nftables.Table, bridges []string) *walk {
	return &walk{netns: netns, table: table, bridges: bridges, in: map[string]bool{}, out: map[string]bool{}}
}

// left are the bridges that nothing accepted so far.
func (w *walk) left() []string {
	return slices.DeleteFunc(slices.Clone(w.bridges), func(b string) bool { return w.in[b] && w.out[b] })
}

func (w *walk) accept(p pass) {
	for _, b := range w.bridges {
		if p.covers(b) {
			w.in[b] = w.in[b] || p.key == expr.MetaKeyIIFNAME
			w.out[b] = w.out[b] || p.key == expr.MetaKeyOIFNAME
		}
	}
}

// maxJumps is the kernel's own limit of nested jumps (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

func (w *walk) chain(name string, depth int) (ending, error) {
	rules, err := rulesOf(w.netns, w.table, name)
	if errors.Is(err, syscall.ENOENT) || depth > maxJumps {
		return goesOn, nil
	}
	if err != nil {
		return goesOn, err
	}
	for _, r := range rules {
		if p, ok := r.passes(); ok {
			if w.accept(p); len(w.left()) == 0 {
				return accepts, nil
			}
		}
		v, ok := r.always()
		if !ok {
			continue
		}
		switch v.Kind {
		case expr.VerdictAccept:
			return accepts, nil
		case expr.VerdictDrop:
			w.why = "chain " + name + " drops or rejects what no earlier rule accepts"
			return drops, nil
		case expr.VerdictReturn:
			return goesOn, nil
		case expr.VerdictJump, expr.VerdictGoto:
			end, err := w.chain(v.Chain, depth+1)
			if err != nil || end != goesOn || v.Kind == expr.VerdictGoto {
				return end, err
			}
		}
	}
	return goesOn, nil
}
