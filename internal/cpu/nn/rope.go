package nn

import (
	"math"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// RopeTable holds the rotations of rotary position embedding (Su et al., arXiv 2104.09864).
type RopeTable struct {
	Cos, Sin []float32 // [positions, Dim/2]
	Dim      int       // leading dims of a head that rotate; the others pass through
	// Interleaved says how dims form planes: (2i, 2i+1) as in GPT-J, else (i, i+Dim/2) as in Llama.
	Interleaved bool
}

// NewRopeTable returns the table of positions 0 … positions-1 for the frequencies invFreq [Dim/2], in radians per
// position. scale multiplies cos and sin (YaRN's attention scaling; 1 as a rule). The angle is a product of float32
// numbers, as in transformers: at far positions its rounding is visible, and models were trained with it.
func NewRopeTable(invFreq []float64, positions int, scale float64, interleaved bool) *RopeTable {
	half := len(invFreq)
	t := &RopeTable{
		Cos: make([]float32, positions*half), Sin: make([]float32, positions*half),
		Dim: 2 * half, Interleaved: interleaved,
	}
	pool.For(positions, pool.Grain(16*half), func(lo, hi int) {
		for p := lo; p < hi; p++ {
			for i, f := range invFreq {
				sin, cos := math.Sincos(float64(float32(p) * float32(f)))
				t.Cos[p*half+i] = float32(cos) * float32(scale)
				t.Sin[p*half+i] = float32(sin) * float32(scale)
			}
		}
	})
	return t
}

// Positions returns how many positions the table holds.
func (t *RopeTable) Positions() int { return len(t.Cos) / max(t.Dim/2, 1) }

// Rotate rotates each head of row r of x [len(pos), heads, headDim] by the angles of position pos[r] into y, which may
// alias x. inverse rotates the other way: the gradient.
func (t *RopeTable) Rotate(y, x []float32, pos []int32, heads, headDim int, inverse bool) {
	width := heads * headDim
	if len(pos)*width <= pool.BlockElements {
		t.rotate(y, x, pos, 0, len(pos), heads, headDim, inverse)
		return
	}
	pool.For(len(pos), pool.Grain(width), func(lo, hi int) { t.rotate(y, x, pos, lo, hi, heads, headDim, inverse) })
}

func (t *RopeTable) rotate(y, x []float32, pos []int32, lo, hi, heads, headDim int, inverse bool) {
	half, sign := t.Dim/2, float32(1)
	if inverse {
		sign = -1
	}
	for r := lo; r < hi; r++ {
		cos, sin := t.Cos[int(pos[r])*half:][:half], t.Sin[int(pos[r])*half:][:half]
		for h := range heads {
			from, to := x[(r*heads+h)*headDim:][:headDim], y[(r*heads+h)*headDim:][:headDim]
			if t.Interleaved {
				rotateInterleaved(to, from, cos, sin, sign)
			} else {
				simd.Rotate(to[:half], to[half:t.Dim], from[:half], from[half:t.Dim], cos, sin, sign)
			}
			copy(to[t.Dim:], from[t.Dim:])
		}
	}
}

// rotateInterleaved rotates the planes (2i, 2i+1).
func rotateInterleaved(y, x, cos, sin []float32, sign float32) {
	n := 2 * len(cos)
	y, x, sin = y[:n], x[:n], sin[:len(cos)]
	for i, c := range cos {
		s, a, b := sin[i]*sign, x[2*i], x[2*i+1]
		y[2*i] = a*c - b*s
		y[2*i+1] = b*c + a*s
	}
}

// RotateRef is the definition of Rotate: in each plane (a, b) becomes (a·cos - b·sin, b·cos + a·sin).
func (t *RopeTable) RotateRef(y, x []float32, pos []int32, heads, headDim int, inverse bool) {
	copy(y, x[:len(pos)*heads*headDim])
	half := t.Dim / 2
	for r, p := range pos {
		for h := range heads {
			head := y[(r*heads+h)*headDim:][:headDim]
			for i := range half {
				j, k := i, i+half
				if t.Interleaved {
					j, k = 2*i, 2*i+1
				}
				c, s := float64(t.Cos[int(p)*half+i]), float64(t.Sin[int(p)*half+i])
				if inverse {
					s = -s
				}
				a, b := float64(head[j]), float64(head[k])
				head[j], head[k] = float32(a*c-b*s), float32(b*c+a*s)
			}
		}
	}
}
