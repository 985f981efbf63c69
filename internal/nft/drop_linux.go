package nft

// Drop deletes the table.
func (t *Table) Drop() error {
	s := t.sets()
	b := newBatch(t.NetNS, s.table)
	if b.err == nil {
		// Made first, so that it is never missing.
		b.conn.AddTable(s.table)
		b.conn.DelTable(s.table)
	}
	return t.op("delete", b.send())
}
