// Package merge makes groups of key/value heads share one head each, within what leaves attention unchanged. It is the maths
// of a single attention module; nothing here runs a model or knows a checkpoint.
//
// Attention reads keys through q·k and values through o·v, so some maps of a head's keys (or values) can be undone in what
// reads them: any invertible map of values, undone in o; any invertible map of keys that positions do not touch, undone in q;
// one complex number per rotary plane of the keys. Heads that look unlike may thus be alike, and only what is left after the
// best such maps is lost when they share.
package merge

import "slices"

// Attention is one attention module's weights as a forward pass reads them. Query head h reads KV head h/(Heads/KVHeads).
type Attention struct {
	Heads, KVHeads, HeadDim int

	Q    Linear // [heads*headDim, in]
	K, V Linear // [kvHeads*headDim, in]
	O    Linear // [out, heads*headDim]

	// QNorm [heads*headDim] and KNorm [kvHeads*headDim] are weights of a norm after the projection, where each head has its
	// own; without a weight where there is no norm or all heads share its weights.
	QNorm, KNorm Vector

	// Distances [rows, heads] are biases of the heads' scores by distance, which move with the heads (T5); nil: there are none.
	Distances []float32

	Key, Value Invariance
}

// Linear is y = W·x + Bias: W [out, in], Bias [out] or nil.
type Linear struct {
	W, Bias []float32
	In      int
}

// Vector is a norm's weights and biases, each nil where there are none.
type Vector struct{ W, Bias []float32 }

// Invariance says which maps of a head's dims can be undone by what reads the head. Every dim is in one of the lists.
type Invariance struct {
	Free   []int    // any invertible map
	Planes [][2]int // a complex number for each
	Signs  [][]int  // a common sign for each list
	Fixed  []int    // none
}

// AnyMap is the invariance of values, and of keys without positions of their own.
func AnyMap(headDim int) Invariance {
	var f Invariance
	for d := range headDim {
		f.Free = append(f.Free, d)
	}
	return f
}

// Rotary is the invariance of keys whose first rotated dims turn with the position, in planes (2i, 2i+1) if interleaved and
// (i, i+rotated/2) otherwise. The dims behind pass through.
func Rotary(headDim, rotated int, interleaved bool) Invariance {
	var f Invariance
	for i := range rotated / 2 {
		if interleaved {
			f.Planes = append(f.Planes, [2]int{2 * i, 2*i + 1})
		} else {
			f.Planes = append(f.Planes, [2]int{i, i + rotated/2})
		}
	}
	for d := rotated / 2 * 2; d < headDim; d++ {
		f.Free = append(f.Free, d)
	}
	return f
}

// OneSign is the invariance of a head whose mean over all dims counts: a sign.
func OneSign(headDim int) Invariance { return Invariance{Signs: [][]int{AnyMap(headDim).Free}} }

// NoMap is no invariance at all.
func NoMap(headDim int) Invariance { return Invariance{Fixed: AnyMap(headDim).Free} }

// SignsOnly is what is left of an invariance where each dim is scaled or clipped for itself: a sign per dim, and a common one for
// the dims of a plane.
func (f Invariance) SignsOnly() Invariance {
	signs := slices.Clone(f.Signs)
	for _, p := range f.Planes {
		signs = append(signs, p[:])
	}
	for _, d := range f.Free {
		signs = append(signs, []int{d})
	}
	return Invariance{Signs: signs, Fixed: f.Fixed}
}

// groupSize is how many query heads read one KV head.
func (a *Attention) groupSize() int { return a.Heads / a.KVHeads }

// rows are the rows of head h.
func (l Linear) rows(h, headDim int) []float32 { return l.W[h*headDim*l.In:][:headDim*l.In] }
