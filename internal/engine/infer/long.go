package infer

// readIDs is what a cache keeps of the tokens read, where they may have to be read again: sequences that grow past some
// length have other rotary frequencies (longrope), from their first token on.
type readIDs struct {
	ids  []int32 // [Seqs, Capacity]; nil: not kept
	long bool    // the cache holds what the frequencies of long sequences give
}

// reread returns the step's tokens or, if they take the sequences to a length of other frequencies, all tokens of the
// sequences: the cache is then empty. It keeps them.
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
