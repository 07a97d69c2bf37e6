package infer

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// AttendLatent computes latent attention in the absorbed form, in which a cache is read once for all heads; or in the expanded form if
// that takes fewer operations and the tokens attend only to themselves, as they were computed.
func (e *engine) AttendLatent(nope, rope, latent, key Mat, a ops.Latent[Mat], b ops.Batch) Mat {
	e.settle()
	joined := e.mat(latent.Rows, a.Rank+a.RopeDim)
	e.device.JoinHeads(joined.all(), latent.all(), key.all(), latent.Rows, 1, a.Rank, a.RopeDim, false)
	if first := e.cache == nil || e.cache.Len == 0 && e.replay == nil; first && e.keepsAsIs() && !a.Absorbs() {
		if e.cache != nil {
			e.cache.extend(a.Site, b, joined, Mat{})
		}
		return e.expanded(nope, rope, latent, key, a, b)
	}
	return e.absorbed(nope, rope, joined, a, b)
}

// expanded attends to keys and values of all heads.
func (e *engine) expanded(nope, rope, latent, key Mat, a ops.Latent[Mat], b ops.Batch) Mat {
	values, n := e.Linear(latent, a.ValueUp), latent.Rows
	var keys Mat
	if a.NopeDim > 0 {
		keys = e.Linear(latent, a.KeyUp)
	}
	q, k := e.mat(n, a.Heads*a.HeadDim), e.mat(n, a.Heads*a.HeadDim)
	e.device.JoinHeads(q.all(), nope.all(), rope.all(), n, a.Heads, a.NopeDim, a.RopeDim, false)
	e.device.JoinHeads(k.all(), keys.all(), key.all(), n, a.Heads, a.NopeDim, a.RopeDim, true)
	out, s := e.mat(n, a.Heads*a.ValueDim), scores(a.Attention, b)
	s.Keys, s.Firsts = b.Len, b.Firsts
	e.device.Attend(s, rows(out, b.Len, a.ValueDim), device.Buffer{}, rows(q, b.Len, a.HeadDim), rows(k, b.Len, a.HeadDim), rows(values, b.Len, a.ValueDim))
	return out
}

// absorbed attends to latents and rotary keys, as a cache holds them; latents are those of the batch [tokens, rank+ropeDim].
func (e *engine) absorbed(nope, rope, latents Mat, a ops.Latent[Mat], b ops.Batch) Mat {
	at, n := a.Queries(), latents.Rows
	q := e.mat(n, a.Heads*at.HeadDim)
	var parts Mat
	if a.NopeDim > 0 {
		parts = e.mat(n, a.Heads*a.Rank)
		e.multiplyHeads(parts, nope, a.KeyUp, a.Heads, false)
	}
	e.device.JoinHeads(q.all(), parts.all(), rope.all(), n, a.Heads, a.Rank, a.RopeDim, false)
	of, s := e.mat(n, a.Heads*a.Rank), scores(at, b)
	keys, values := e.keysAndValues(&s, latents, Mat{}, at, b, false)
	e.device.Attend(s, rows(of, b.Len, a.Rank), device.Buffer{}, rows(q, b.Len, at.HeadDim), keys, values)
	out := e.mat(n, a.Heads*a.ValueDim)
	e.multiplyHeads(out, of, a.ValueUp, a.Heads, true)
	return out
}

// multiplyHeads multiplies each head of x by its part of w, transposed if trans is true.
func (e *engine) multiplyHeads(y, x Mat, w ops.Linear[Mat], heads int, trans bool) {
	n, k := y.Cols/heads, x.Cols/heads
	e.device.MultiplyHeads(trans, heads, y.Rows, n, k, device.Heads{Buffer: y.Buffer, Head: n, Row: y.Cols}, device.Heads{Buffer: x.Buffer, Head: k, Row: x.Cols},
		w.W.Buffer)
}
