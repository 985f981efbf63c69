package nft

import "errors"

// Drop deletes the table, and our rules in the chains of others. Networks and
// published ports that were in it are unknown then. Where there is nothing it
// is no error.
func (t *Table) Drop() error {
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err == nil {
		// Made first, so that it is never missing.
		b.conn.AddTable(s.table)
		b.conn.DelTable(s.table)
	}
	return t.op("delete", errors.Join(b.send(), t.unpass()))
}
