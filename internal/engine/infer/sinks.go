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
	s := c.sinks[a.Site]
	turned := e.mat(s.keys.Rows, s.keys.Cols)
	e.shift = e.shift[:0]
	for range s.keys.Rows {
		e.shift = append(e.shift, int32(by))
	}
	e.device.Rotate(e.shiftRope(by), turned.all(), s.keys.all(), e.shift, a.KVHeads, a.HeadDim, false)
	e.device.Store(c.keys[a.Site], c.values[a.Site], 0, turned.Buffer, s.values.Buffer, c.Seqs, s.keys.Rows/c.Seqs, a.HeadDim)
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
	r := e.shifts[e.turned]
	if r == nil || r.Positions() <= most {
		r = e.device.NewRope(e.turned.InvFreq, max(2*most, 64), 1, e.turned.Interleaved)
		e.shifts[e.turned] = r
	}
	return r
}
