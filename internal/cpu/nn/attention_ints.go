package nn

import "gqa/internal/cpu/simd"

// inLanes reports whether integers are converted in registers.
func (v View) inLanes(l *laneWork) bool { return v.Ints != simd.I4 || !l.I4Converted }

// scoreInts is scoreLanes for keys of integers.
func (f *forward) scoreInts(w *work, j, n int) {
	d, l := f.HeadDim, &w.lanes
	if f.usesQuads(l) {
		f.scoreQuads(w, j, n)
		return
	}
	next, soon, width := f.k.ahead(w.b, w.kv, j, d), l.AheadInts(), simd.Attention().Width
	whole := 0
	if l.ScoreInts != nil && f.k.inLanes(l) && d%simd.IntsStep == 0 {
		whole = n / width * width
	}
	if whole > 0 {
		k, scales := f.k.bytes(w.b, w.kv, j)
		l.ScoreInts(f.k.Ints, whole, d, l.q, k, f.k.Ints.Bytes(f.k.Row), scales, w.s, next.At(soon, f.k.Ints.Line()))
	}
	for i := whole; i < n; i += halfKeys {
		m := min(halfKeys, n-i)
		k, ld := f.k.rows(&w.converted, w.b, w.kv, j+i, m, d)
		l.scoreKeys(m, d, k, ld, w.s[i*l.Rows:], next.At(i*d+soon, l.ScoreStep))
	}
}

// sumValuesInts is sumValuesLanes for values of integers.
func (f *forward) sumValuesInts(w *work, j, n int) {
	d, l := f.valueDim(), &w.lanes
	next, from := f.v.ahead(w.b, w.kv, j, d), l.AheadInts()
	if l.SumValuesInts != nil && f.v.inLanes(l) && d%l.W == 0 {
		v, scales := f.v.bytes(w.b, w.kv, j)
		step := min(f.v.Ints.Line(), l.W*l.H/l.Rows)
		for x := 0; x < d; x += l.W {
			for r := 0; r < l.Rows; r += l.H {
				l.SumValuesInts(f.v.Ints, n, w.s[r:], l.Rows, v[f.v.Ints.Bytes(x):], f.v.Ints.Bytes(f.v.Row), scales, w.o[r*d+x:], d, next.At(from, step))
				from += n * l.W * l.H / l.Rows
			}
		}
		return
	}
	for i := 0; i < n; i += halfKeys {
		m := min(halfKeys, n-i)
		v, ld := f.v.rows(&w.converted, w.b, w.kv, j+i, m, d)
		w.sumValuesKeys(m, d, w.s[i*l.Rows:], v, ld, next, i*d+from)
	}
}
