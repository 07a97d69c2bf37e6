package infer

// readIDs are the tokens read so far, in case they must be read again: sequences that grow beyond some length use other
// rotary frequencies (longrope) for all their tokens.
type readIDs struct {
	ids  []int32 // [Seqs, Capacity]; nil: not recorded
	long bool    // the cache was computed with the frequencies for long sequences
}

// reread returns the step's tokens or, if they extend the sequences to a length with other frequencies, all tokens of
// the sequences, after emptying the cache. It records the tokens.
func (d *Decoder) reread(c *Cache, ids []int32) []int32 {
	if c.read.ids == nil {
		return ids
	}
	n := len(ids) / c.Seqs
	for seq := range c.Seqs {
		copy(c.read.ids[seq*c.Capacity+c.Len:], ids[seq*n:][:n])
	}
	long := c.Len+n > int(d.Arch.Rope.OriginalContext)
	again := c.Len > 0 && long != c.read.long
	c.read.long = long
	if !again {
		return ids
	}
	n, ids = c.Len+n, nil
	for seq := range c.Seqs {
		ids = append(ids, c.read.ids[seq*c.Capacity:][:n]...)
	}
	c.Len = 0
	return ids
}
