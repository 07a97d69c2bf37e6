package nn

import (
	"math"
	"math/bits"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/simd"
)

// Keys of integers by instructions that multiply quads of bytes (AVX512_VNNI): 64 multiply-adds in the time of 16 of float32. Queries
// are rounded to 15 bits of their row's largest magnitude, in two parts of a byte: that changes scores a hundredth as much as the
// rounding of keys to 8 bits has. Sums are exact.

// usesQuads reports whether scores are computed by quads.
func (f *forward) usesQuads(l *laneWork) bool {
	return l.ScoreQuads != nil && f.k.Ints != 0 && (f.k.Ints == simd.I8 || l.I4Quads) && f.HeadDim%simd.QuadElements == 0
}

const (
	quadTop  = 127 * 128 // the largest magnitude of a query
	quadHalf = 64
)

// packQuads puts the queries in the order of ScoreQuads.
func (f *forward) packQuads(w *work) {
	d, l := f.HeadDim, &w.lanes
	l.q = memory.Grow(l.q, simd.QuadHeader+l.Rows*d/2)
	clear(l.q)
	c, offset := simd.MaxLanes/l.Rows, int32(128)
	if f.k.Ints == simd.I4 {
		offset = 8
	}
	for r := range w.rows {
		row := w.q[r*d:][:d]
		scale := quadScale(row)
		for lane := r; lane < simd.MaxLanes; lane += l.Rows {
			l.q[2*simd.MaxLanes+lane] = scale
		}
		p := quadPacking{c: c, shift: bits.TrailingZeros(uint(c)), to: l.q[simd.QuadHeader+r*c:]}
		if scale > 0 {
			p.inverse = 1 / scale
		}
		if f.k.Ints == simd.I8 {
			for i := range d / 4 {
				p.pack(i>>p.shift, i, row[4*i:])
			}
		} else {
			for i := range d / 8 { // quads of bytes, with numbers half a block apart in their halves
				from := i/4*simd.IntsStep + i%4*4
				p.pack(2*(i>>p.shift), i, row[from:])
				p.pack(2*(i>>p.shift)+1, i, row[from+simd.IntsStep/2:])
			}
		}
		for lane := range c {
			l.q[r*c+lane] = integer(-offset * p.upper[lane])
			l.q[simd.MaxLanes+r*c+lane] = integer(-offset * p.lower[lane])
		}
	}
}

// quadPacking packs a row of queries.
type quadPacking struct {
	c, shift     int // lanes, and their logarithm
	inverse      float32
	to           []float32
	upper, lower [simd.MaxLanes]int32 // sums of either part in each lane
}

// pack packs four queries into a step's lane number i modulo c.
func (p *quadPacking) pack(step, i int, row []float32) {
	const round = 3 << 22 // to where float32 have no fraction
	lane := i & (p.c - 1)
	var high, low uint32
	for j, x := range row[:4] {
		n := int32(math.Float32bits(x*p.inverse+round)) - 0x4b400000
		h := (n + quadHalf) >> 7
		l := n - h<<7
		high |= uint32(byte(h)) << (8 * j)
		low |= uint32(byte(l)) << (8 * j)
		p.upper[lane] += h
		p.lower[lane] += l
	}
	at := p.to[step*2*simd.MaxLanes+lane:]
	at[0], at[simd.MaxLanes] = math.Float32frombits(high), math.Float32frombits(low)
}

// integer returns an integer as the bits of a float32.
func integer(n int32) float32 { return math.Float32frombits(uint32(n)) }

// quadScale returns the scale of a row of queries: 0 if all are as good as zero, NaN if one is not finite.
func quadScale(row []float32) float32 {
	switch largest := simd.Largest(row); {
	case !(largest <= math.MaxFloat32):
		return float32(math.NaN())
	case largest < simd.SmallestRow:
		return 0
	default:
		return largest / quadTop
	}
}

// scoreQuads is scoreLanes by quads.
func (f *forward) scoreQuads(w *work, j, n int) {
	const width = simd.MaxLanes
	d, l, ints := f.HeadDim, &w.lanes, f.k.Ints
	k, scales := f.k.bytes(w.b, w.kv, j)
	ld, next := ints.Bytes(f.k.Row), f.k.ahead(w.b, w.kv, j, d)
	whole := n / width * width
	if whole > 0 {
		l.ScoreQuads(ints, whole, d, l.q, k, ld, scales, w.s, next.At(l.AheadInts(), ints.Line()))
	}
	if whole == n {
		return
	}
	size := ints.Bytes(d)
	if cap(l.lastInts) < width*size {
		l.lastInts = make([]byte, width*size)
	}
	last, lastScales := l.lastInts[:width*size], [width]float32{}
	for i := range n - whole {
		copy(last[i*size:][:size], k[(whole+i)*ld:])
	}
	copy(lastScales[:], scales[whole:n])
	l.ScoreQuads(ints, width, d, l.q, last, size, lastScales[:], w.s[whole*l.Rows:], simd.Prefetch{Base: next.Base})
	fill(w.s[n*l.Rows:(whole+width)*l.Rows], float32(math.Inf(-1)))
}
