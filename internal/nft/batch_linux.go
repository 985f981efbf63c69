package nft

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/amphora-go/amphora/internal/fault"
)

// chunk is how many elements go in one message: their list is one netlink
// attribute, whose length has 16 bits, and an element with the longest comment
// takes about 400 bytes.
const chunk = 128

// batch is one transaction: all of it happens or nothing.
type batch struct {
	conn     *nftables.Conn
	table    *nftables.Table
	elements int
	err      error
}

func (t *Table) inet() *nftables.Table {
	return &nftables.Table{Name: t.Name, Family: nftables.TableFamilyINet}
}

func newBatch(netns int, table *nftables.Table) *batch {
	b := &batch{table: table}
	b.conn, b.err = nftables.New(nftables.WithNetNSFd(netns), nftables.WithSockOptions(b.tune))
	return b
}

// tune keeps the kernel from sending whole requests back with its answers, and
// makes room for a transaction of thousands of elements, which is one message
// to the socket. An element takes at most about 400 bytes.
func (b *batch) tune(c *netlink.Conn) error {
	_ = c.SetOption(netlink.CapAcknowledge, true) // saves copying only
	if b.elements <= chunk {
		return nil
	}
	size := b.elements*512 + 1<<18
	return errors.Join(c.SetWriteBuffer(size), c.SetReadBuffer(size))
}

// add puts elements in a set; those that are there with the same data stay.
func (b *batch) add(s *nftables.Set, elems ...nftables.SetElement) {
	b.each(s, elems, b.conn.SetAddElements)
}

// remove deletes elements and fails only when one is there with other data:
// each is added first, so that none is missing. Checking the data matters, as
// the kernel deletes by key: the place may be somebody else's by now.
func (b *batch) remove(s *nftables.Set, elems ...nftables.SetElement) {
	b.add(s, elems...)
	b.each(s, elems, b.conn.SetDeleteElements)
}

func (b *batch) each(s *nftables.Set, elems []nftables.SetElement, f func(*nftables.Set, []nftables.SetElement) error) {
	b.elements += len(elems)
	for len(elems) > 0 && b.err == nil {
		n := min(len(elems), chunk)
		b.err = f(s, elems[:n])
		elems = elems[n:]
	}
}

func (b *batch) send() error {
	if b.err != nil {
		return b.err
	}
	return b.conn.Flush()
}

// exists tells that an element is there with other data, or that an interval
// overlaps another.
func exists(err error) bool {
	return errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY)
}

// absent tells that there is no table. The errors of all messages of a batch
// are joined: after one of exists, later deletions do not find what it kept
// from being added.
func absent(err error) bool { return errors.Is(err, syscall.ENOENT) && !exists(err) }

// apply runs one transaction of elements. The steady state is a single batch,
// which names the marker of the schema; if that or the table is missing, the
// base is written in front of the same elements.
func (t *Table) apply(fill func(*batch, *sets)) error {
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err != nil {
		return b.err
	}
	b.add(s.marker, markerElement())
	fill(b, s)
	err := b.send()
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	s = t.sets()
	b = newBatch(t.NetNS, s.table)
	if b.err != nil {
		return b.err
	}
	t.writeBase(b, s)
	fill(b, s)
	err = b.send()
	if errors.Is(err, syscall.ENOENT) {
		return t.lacking(err)
	}
	return err
}

// lacking is the error of a batch that writes the base and failed with ENOENT:
// all that it names is made in it, so what the kernel did not find is the code
// behind a chain type or an expression.
func (t *Table) lacking(err error) error {
	return fault.Unsupported("nftables table %s: the kernel lacks a part of nf_tables; it needs inet tables, nat chains (5.2 or newer) and the modules nft_ct, nft_fib_inet, nft_nat, nft_masq: %w", t.Name, err)
}

// explain says what the kernel's error numbers mean here. It is called once for
// each error, where it leaves the package.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fault.Privilege("the packet filter needs CAP_NET_ADMIN in the user namespace that owns the network namespace (run as root): %w", err)
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EAFNOSUPPORT):
		return fault.Unsupported("the kernel has no nf_tables: it needs CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and CONFIG_NF_NAT (modprobe nf_tables): %w", err)
	}
	return fault.Opaque(err) // a missing table is no missing network
}

// op wraps an error of an operation on this table.
func (t *Table) op(what string, err error) error {
	if err = explain(err); err == nil {
		return nil
	}
	return fmt.Errorf("nftables table %s: %s: %w", t.Name, what, err)
}
