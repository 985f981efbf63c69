package cache

// Sync makes survive a loss of power what builds of this process have made, in
// the background: see store.Wait. Until then, whatever is not known to be on
// disk is made again after one. Cap does it as well.
func (c *Cache) Sync() {
	c.mu.Lock()
	layers, slots := c.fresh, c.slots
	c.fresh, c.slots = nil, map[string]string{}
	c.mu.Unlock()
	c.s.SyncLayers(layers)
	if len(slots) == 0 {
		return
	}
	c.s.Background(func() {
		if c.s.SyncRoot() != nil {
			return // the marks stay
		}
		for dir, note := range slots {
			c.settleSlot(dir, note)
		}
	})
}
