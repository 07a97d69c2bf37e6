package infer

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// sinks are the keys and values of the first tokens at a site, [seqs, sinks, kvHeads*headDim], as they were computed.
type sinks struct{ keys, values Mat }

func newSinks(d device.Device, rows, cols int) sinks {
	room := func() Mat { return Mat{Buffer: d.New(d.Activations(), rows*cols), Rows: rows, Cols: cols} }
	return sinks{room(), room()}
}

// first returns the first rows.
func (s sinks) first(rows int) sinks {
	of := func(m Mat) Mat { return Mat{Buffer: m.Slice(0, rows*m.Cols), Rows: rows, Cols: m.Cols} }
	return sinks{of(s.keys), of(s.values)}
}

// keepSinks copies what is a sink of the batch's tokens, of which the first of each sequence has number first.
func (c *Cache) keepSinks(site int, b ops.Batch, first int, k, v Mat) {
	if c.sinks == nil || first >= c.kept.Sinks {
		return
	}
	s, n := c.sinks[site], min(b.Len, c.kept.Sinks-first)
	each := s.keys.Rows / c.Seqs
	for seq := range c.Seqs {
		from, to := seq*b.Len*k.Cols, (seq*each+first)*k.Cols
		c.device.Copy(s.keys.Slice(to, to+n*k.Cols), k.Slice(from, from+n*k.Cols))
		c.device.Copy(s.values.Slice(to, to+n*k.Cols), v.Slice(from, from+n*k.Cols))
	}
}

// behind returns by how many positions a token in the text is behind its place in a cache with a window: other keys of the window are
// as far behind, and sinks are not.
func (k Kept) behind(position int) int { return max(0, position-(k.Sinks+k.Window-1)) }

// shiftSinks stores a site's sinks in the cache at the positions that they have for the token that comes next.
func (e *engine) shiftSinks(a ops.Attention[Mat], tokens int) {
	c := e.cache
	by := c.kept.behind(c.Len + tokens - 1)
	if c.sinks == nil || by == 0 || e.turned == nil {
		return
	}
	s, keys, values := c.sinks[a.Site], c.keys[a.Site], c.values[a.Site]
	pos, rope, each := e.shiftsBy(by, s.keys.Rows), e.shiftRope(by), s.keys.Rows/c.Seqs
	if e.fused != nil {
		e.fused.RotateStore(rope, device.Rows{}, s.keys.all(), s.values.all(), pos, 0, a.HeadDim, keys, values, 0, each)
		return
	}
	turned := e.mat(s.keys.Rows, s.keys.Cols)
	e.device.Rotate(rope, turned.all(), s.keys.all(), pos, a.KVHeads, a.HeadDim, false)
	e.device.Store(keys, values, 0, turned.Buffer, s.values.Buffer, c.Seqs, each, a.HeadDim)
}

// shiftsBy returns positions of rows that are all rotated by as much, as the repeated step's input if there is one.
func (e *engine) shiftsBy(by, rows int) []int32 {
	if e.replay != nil {
		return e.replay.Shift
	}
	e.shift = e.shift[:0]
	for range rows {
		e.shift = append(e.shift, int32(by))
	}
	return e.shift
}

// sinkQueries returns queries that are as far from sinks as they are in a cache; the zero Heads if they all are.
func (e *engine) sinkQueries(q Mat, a ops.Attention[Mat], b ops.Batch) device.Heads {
	e.shift = e.shift[:0]
	most := 0
	for _, p := range b.Pos {
		by := e.kept.behind(int(p))
		e.shift, most = append(e.shift, int32(by)), max(most, by)
	}
	if most == 0 || e.turned == nil {
		return device.Heads{}
	}
	turned := e.mat(q.Rows, q.Cols)
	e.device.Rotate(e.shiftRope(most), turned.all(), q.all(), e.shift, a.Heads, a.HeadDim, true)
	return rows(turned, b.Len, a.HeadDim)
}

// shiftRope returns rotations by up to a number of positions, without the scale that rotated keys and queries already have.
func (e *engine) shiftRope(most int) device.Rope {
	if e.replay != nil { // it will be repeated with more
		most = max(most, e.replay.positions)
	}
	return e.table(e.shifts, e.turned, most+1, max(2*most, 64), 1)
}
