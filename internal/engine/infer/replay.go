package infer

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// replay is a step of one token per sequence on a device that can repeat it. The number of tokens in the cache, which grows, is an
// input of the step; attention reaches over some more keys.
type replay struct {
	device.Replay
	replayKey
	d      *Decoder
	device device.Replayer
	run    func() // request, created once to avoid allocations
	logits Mat
}

// replayKey is what the repeated operations depend on beside their inputs.
type replayKey struct {
	cache     *Cache
	keys      int  // that attention reaches over at most
	positions int  // of the sequences at most
	long      bool // see readIDs
	behind    bool // whether sinks move on with the text
	freed     int  // see engine: it uses none of the tables that were freed
}

// newReplay returns the decoder's replay; nil if the device has none.
func newReplay(d *Decoder) *replay {
	device, ok := d.device.(device.Replayer)
	if !ok {
		return nil
	}
	r := &replay{d: d, device: device}
	r.run = r.request
	return r
}

// leastKeys is the smallest number of keys that a repeated step reaches over, if the cache has room for them.
const leastKeys = 512

// reachFor returns the keys that a step reaches over when the cache has n with its own: a power of two, or all.
func reachFor(n, capacity int) int {
	keys := leastKeys
	for keys < n {
		keys *= 2
	}
	return min(keys, capacity)
}

// repeats reports whether the next step of a cache can be repeated: not while tokens become sinks, at other places each time.
func (r *replay) repeats(c *Cache) bool { return r != nil && c.Len >= c.kept.Sinks }

// step is Step.
func (r *replay) step(c *Cache, ids []int32) Mat {
	kept, by := c.kept.Tokens(c.Len+1), c.kept.behind(c.Len)
	key := replayKey{
		c, reachFor(kept, c.kept.Tokens(c.Capacity)), reachFor(c.Len+1, c.Capacity), c.read.long, len(c.sinks) > 0 && by > 0, r.d.eng.freed,
	}
	if key != r.replayKey {
		r.forget()
		r.replayKey = key
		r.IDs, r.Pos, r.Lens, r.Shift = make([]int32, c.Seqs), make([]int32, c.Seqs), make([]int, c.Seqs), nil
		if key.behind {
			r.Shift = make([]int32, c.sinks[0].keys.Rows)
		}
	}
	r.First = c.slot(c.Len)
	for i, id := range ids {
		r.IDs[i], r.Pos[i], r.Lens[i] = id, int32(c.Len), kept
	}
	for i := range r.Shift {
		r.Shift[i] = int32(by)
	}
	r.device.Replay(&r.Replay, r.run)
	c.Len++
	return r.logits
}

// request requests the operations of the step.
func (r *replay) request() {
	e := r.d.eng
	e.reset()
	e.cache, e.kept, e.replay = r.cache, r.cache.kept, r
	h := r.d.model.Hidden(e, ops.Batch{IDs: r.IDs, Pos: r.Pos, Seqs: r.cache.Seqs, Len: 1})
	r.logits = r.d.model.Logits(e, h)
	e.replay = nil
}

func (r *replay) forget() {
	r.device.Forget(&r.Replay)
	r.replayKey = replayKey{}
}

// forget drops a repeated step, before memory that it uses is freed or replaced.
func (d *Decoder) forget() {
	if d.replay != nil {
		d.replay.forget()
	}
}
