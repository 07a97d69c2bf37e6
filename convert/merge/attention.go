// Package merge makes groups of key/value heads share one head each, using maps that leave attention unchanged. It is
// the maths of a single attention module, and knows nothing of models and checkpoints.
//
// Attention reads keys through q·k and values through o·v, so some maps of a head's keys (or values) can be undone in
// their readers: any invertible map of values, undone in o; any invertible map of keys without positions, undone in q;
// one complex number per rotary plane of the keys. Heads that look different may therefore be equivalent, and sharing
// only loses what remains different after the best such maps.
package merge

import "slices"

// Attention holds the weights of one attention module as a forward pass reads them. Query head h reads KV head
// h/(Heads/KVHeads).
type Attention struct {
	Heads, KVHeads, HeadDim int

	Q    Linear // [heads*headDim, in]
	K, V Linear // [kvHeads*headDim, in]
	O    Linear // [out, heads*headDim]

	// QNorm [heads*headDim] and KNorm [kvHeads*headDim] are the weights of a norm after the projection if each head has
	// its own; they are nil if there is no norm or all heads share its weights.
	QNorm, KNorm Vector

	// Distances [rows, heads] are biases of the heads' scores by distance, which are reordered with the heads (T5); nil
	// if there are none.
	Distances []float32

	Key, Value Invariance
}

// Linear is y = W·x + Bias: W [out, in], Bias [out] or nil.
type Linear struct {
	W, Bias []float32
	In      int
}

// Vector holds a norm's weights and biases, each nil if there are none.
type Vector struct{ W, Bias []float32 }

// Invariance lists the maps of a head's dims that can be undone by the head's readers. Every dim is in one of the
// lists.
type Invariance struct {
	Free   []int    // any invertible map
	Planes [][2]int // one complex number per plane
	Signs  [][]int  // one common sign per list
	Fixed  []int    // none
}

// AnyMap returns the invariance of values, and of keys without positions.
func AnyMap(headDim int) Invariance {
	var f Invariance
	for d := range headDim {
		f.Free = append(f.Free, d)
	}
	return f
}

// Rotary returns the invariance of keys whose first rotated dims are rotated by position, in planes (2i, 2i+1) if
// interleaved and (i, i+rotated/2) otherwise. The other dims are not rotated.
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

// OneSign returns the invariance of a head whose mean over all dims matters: a single sign.
func OneSign(headDim int) Invariance { return Invariance{Signs: [][]int{AnyMap(headDim).Free}} }

// NoMap returns the invariance that allows no map at all.
func NoMap(headDim int) Invariance { return Invariance{Fixed: AnyMap(headDim).Free} }

// SignsOnly returns what remains of an invariance if each dim is scaled or clipped separately: a sign per dim, and a
// common one for the dims of a plane.
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

// groupSize returns the number of query heads that read one KV head.
func (a *Attention) groupSize() int { return a.Heads / a.KVHeads }

// rows returns the rows of head h.
func (l Linear) rows(h, headDim int) []float32 { return l.W[h*headDim*l.In:][:headDim*l.In] }
