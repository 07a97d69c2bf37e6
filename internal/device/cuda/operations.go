//go:build cuda && linux

package cuda

import (
	"math"
	"slices"

	"gqa/internal/activation"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// Copy implements device.Elementwise.
func (d *Device) Copy(dst, x device.Buffer) {
	n := min(dst.Len(), x.Len())
	switch {
	case n == 0 || d.stopped():
	case dst.Format() == x.Format():
		d.gpu.Copy(dst.Addr(), x.Addr(), n*dst.Format().Size())
	default:
		d.convert(dst, x, n)
	}
}

// Clear implements device.Elementwise.
func (d *Device) Clear(dst device.Buffer) {
	if dst.Len() > 0 && !d.stopped() {
		d.gpu.Clear(dst.Addr(), dst.Len()*dst.Format().Size())
	}
}

// Add implements device.Elementwise.
func (d *Device) Add(dst, x, y device.Buffer) {
	n := d.sameLength("add", dst, x, y)
	d.each(elementwiseSource[dst.Format()], "add", n, addr(dst), addr(x), addr(y), uint64(n))
}

// Axpy implements device.Elementwise.
func (d *Device) Axpy(s float32, x, dst device.Buffer) {
	n := d.sameLength("axpy", dst, x)
	d.each(elementwiseSource[x.Format()], "axpy", n, cuda.Float(s), addr(x), addr(dst), uint64(n))
}

// Scale implements device.Elementwise.
func (d *Device) Scale(dst device.Buffer, s float32) {
	d.each(elementwiseSource[dst.Format()], "scale", dst.Len(), addr(dst), cuda.Float(s), uint64(dst.Len()))
}

// ScaleBy implements device.Elementwise.
func (d *Device) ScaleBy(dst, s device.Buffer) {
	d.each(elementwiseSource[dst.Format()], "scale_by", dst.Len(), addr(dst), addr(s), uint64(dst.Len()))
}

// Shift implements device.Elementwise.
func (d *Device) Shift(dst, x device.Buffer, s float32) {
	n := d.sameLength("shift", dst, x)
	d.each(elementwiseSource[dst.Format()], "shift", n, addr(dst), addr(x), cuda.Float(s), uint64(n))
}

// Clip implements device.Elementwise.
func (d *Device) Clip(dst, x device.Buffer, m float32) {
	n := d.sameLength("clip", dst, x)
	d.each(elementwiseSource[dst.Format()], "clip", n, addr(dst), addr(x), cuda.Float(m), uint64(n))
}

// ClipBackward implements device.Elementwise.
func (d *Device) ClipBackward(dx, dy, x device.Buffer, m float32) {
	n := d.sameLength("clip", dx, dy, x)
	d.each(elementwiseSource[dx.Format()], "clip_backward", n, addr(dx), addr(dy), addr(x), cuda.Float(m), uint64(n))
}

// Lerp implements device.Elementwise.
func (d *Device) Lerp(dst, x device.Buffer, s float32) {
	n := d.sameLength("lerp", dst, x)
	d.each(elementwiseSource[dst.Format()], "lerp", n, addr(dst), addr(x), cuda.Float(s), uint64(n))
}

// Swap implements device.Elementwise.
func (d *Device) Swap(x, y device.Buffer) {
	n := d.sameLength("swap", x, y)
	d.each(elementwiseSource[x.Format()], "swap", n, addr(x), addr(y), uint64(n))
}

// Activate implements device.Elementwise.
func (d *Device) Activate(act activation.Func, y, x device.Buffer) {
	n := d.sameLength(act.String(), y, x)
	d.each(elementwiseSource[y.Format()], "activate", n, uint64(act), addr(y), addr(x), uint64(n))
}

// ActivateBackward implements device.Elementwise.
func (d *Device) ActivateBackward(act activation.Func, dx, dy, x device.Buffer) {
	n := d.sameLength(act.String(), dx, dy, x)
	d.each(elementwiseSource[dx.Format()], "activate_backward", n, uint64(act), addr(dx), addr(dy), addr(x), uint64(n))
}

// Gate implements device.Elementwise.
func (d *Device) Gate(act activation.Func, y, gate, up device.Buffer) {
	n := d.sameLength(act.String(), y, gate, up)
	d.each(elementwiseSource[y.Format()], "gate", n, uint64(act), addr(y), addr(gate), addr(up), uint64(n))
}

// GateBackward implements device.Elementwise.
func (d *Device) GateBackward(act activation.Func, dgate, dup, dy, gate, up device.Buffer) {
	n := d.sameLength(act.String(), dgate, dup, dy, gate, up)
	d.each(elementwiseSource[dgate.Format()], "gate_backward", n, uint64(act), addr(dgate), addr(dup), addr(dy), addr(gate), addr(up), uint64(n))
}

// Gemm implements device.Products.
func (d *Device) Gemm(ta, tb bool, m, n, k int, alpha float32, a device.Buffer, lda int, b device.Buffer, ldb int, beta float32, c device.Buffer, ldc int) {
	if m == 0 || n == 0 || d.stopped() {
		return
	}
	d.gpu.Multiply(cuda.Product{
		TA: ta, TB: tb, M: m, N: n, K: k, Alpha: alpha, Beta: beta, A: matrix(a, lda), B: matrix(b, ldb), C: matrix(c, ldc),
	})
}

// types are the formats in cuBLAS's terms.
var types = [...]cuda.Type{device.F32: cuda.F32, device.BF16: cuda.BF16, device.F16: cuda.F16}

func matrix(b device.Buffer, ld int) cuda.Matrix {
	return cuda.Matrix{At: b.Addr(), Type: types[b.Format()], LD: ld}
}

// Multiply implements device.Products. Weights in a format other than x's are converted first.
func (d *Device) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for _, p := range ps {
		w := p.W
		if w.Format() != x.Format() {
			w = d.New(x.Format(), w.Len())
			d.convert(w, p.W, w.Len())
			defer d.Free(w)
		}
		d.Gemm(false, true, rows, p.N, k, 1, x, k, w, k, 0, p.Y, p.N)
	}
}

// AddRows implements device.Products.
func (d *Device) AddRows(y, bias device.Buffer, rows, dim int) {
	d.each(rowsSource[y.Format()], "add_rows", rows*dim, addr(y), addr(bias), uint64(rows), uint64(dim))
}

// SumRows implements device.Products.
func (d *Device) SumRows(dbias, dy device.Buffer, rows, dim int) {
	d.sumColumns(dbias, dy, device.Buffer{}, device.Buffer{}, device.Buffer{}, 1, rows, dim)
}

// sumColumns adds the sums of the columns of dy [rows, dim], or of dy·(x - mean)·inv, to dst [dim]. Each row holds those
// of heads norms.
func (d *Device) sumColumns(dst, dy, x, mean, inv device.Buffer, heads, rows, dim int) {
	if rows == 0 {
		return
	}
	const per = 128 // rows; the partition depends on nothing else
	parts := (rows + per - 1) / per
	part := d.New(device.F32, parts*dim)
	defer d.Free(part)
	d.launch(rowsSource[dy.Format()], "column_sums", cuda.Grid{X: (dim + 31) / 32, Y: parts, TX: 32, TY: 8},
		addr(part), addr(dy), addr(x), addr(mean), addr(inv), uint64(heads), uint64(rows), uint64(dim), per)
	d.each(rowsSource[device.F32], "add_parts", dim, addr(dst), addr(part), uint64(parts), uint64(dim))
}

// normHeads returns the number of heads in the weight [heads, dim] of a norm.
func normHeads(w device.Buffer, dim int) uint64 { return uint64(max(w.Len()/dim, 1)) }

// RMSNorm implements device.Norms.
func (d *Device) RMSNorm(y, inv, x, w device.Buffer, rows, dim int, eps float32) {
	d.rows(rowsSource[y.Format()], "rms_norm", rows, dim, addr(y), addr(inv), addr(x), addr(w), normHeads(w, dim), uint64(dim), cuda.Float(eps))
}

// RMSNormBackward implements device.Norms.
func (d *Device) RMSNormBackward(dx, dw, dy, x, w, inv device.Buffer, rows, dim int) {
	if !dw.None() { // before dx, which may be dy
		heads := int(normHeads(dw, dim))
		d.sumColumns(dw, dy, x, device.Buffer{}, inv, heads, rows/heads, heads*dim)
	}
	d.rows(rowsSource[dx.Format()], "rms_norm_backward", rows, dim, addr(dx), addr(dy), addr(x), addr(w), addr(inv), normHeads(w, dim), uint64(dim))
}

// LayerNorm implements device.Norms.
func (d *Device) LayerNorm(y, mean, inv, x, w, b device.Buffer, rows, dim int, eps float32) {
	d.rows(rowsSource[y.Format()], "layer_norm", rows, dim, addr(y), addr(mean), addr(inv), addr(x), addr(w), addr(b), max(normHeads(w, dim), normHeads(b, dim)), uint64(dim), cuda.Float(eps))
}

// LayerNormBackward implements device.Norms.
func (d *Device) LayerNormBackward(dx, dw, db, dy, x, w, mean, inv device.Buffer, rows, dim int) {
	if !dw.None() {
		heads := int(normHeads(dw, dim))
		d.sumColumns(dw, dy, x, mean, inv, heads, rows/heads, heads*dim)
	}
	if !db.None() {
		heads := int(normHeads(db, dim))
		d.SumRows(db, dy, rows/heads, heads*dim)
	}
	d.rows(rowsSource[dx.Format()], "layer_norm_backward", rows, dim, addr(dx), addr(dy), addr(x), addr(w), addr(mean), addr(inv), normHeads(w, dim), uint64(dim))
}

// rope is a table of cosines and sines [positions, planes].
type rope struct {
	cosines, sines    device.Buffer
	positions, planes int
	interleaved       bool
}

// Positions implements device.Rope.
func (r *rope) Positions() int { return r.positions }

// NewRope implements device.Positions. Angles are products of float32 numbers, as in transformers.
func (d *Device) NewRope(invFreq []float64, positions int, scale float64, interleaved bool) device.Rope {
	planes := len(invFreq)
	cosines, sines := make([]float32, positions*planes), make([]float32, positions*planes)
	for p := range positions {
		for i, f := range invFreq {
			sin, cos := math.Sincos(float64(float32(p) * float32(f)))
			cosines[p*planes+i], sines[p*planes+i] = float32(cos)*float32(scale), float32(sin)*float32(scale)
		}
	}
	return &rope{d.Put(cosines), d.Put(sines), positions, planes, interleaved}
}

// Rotate implements device.Positions.
func (d *Device) Rotate(r device.Rope, y, x device.Buffer, pos []int32, heads, headDim int, inverse bool) {
	t, sign, interleaved := r.(*rope), float32(1), uint64(0)
	if inverse {
		sign = -1
	}
	if t.interleaved {
		interleaved = 1
	}
	at := d.ids(pos)
	defer d.Free(at)
	d.each(rowsSource[y.Format()], "rotate", len(pos)*heads*(headDim-t.planes), addr(y), addr(x), addr(at), addr(t.cosines), addr(t.sines),
		uint64(len(pos)), uint64(heads), uint64(headDim), uint64(t.planes), interleaved, cuda.Float(sign))
}

// RelativeBias implements device.Positions.
func (d *Device) RelativeBias(y, table device.Buffer, bucket []int32, heads, queries, keys int) {
	at := d.ids(bucket)
	defer d.Free(at)
	d.each(rowsSource[device.F32], "relative_bias", heads*queries*keys, addr(y), addr(table), addr(at), uint64(heads), uint64(queries), uint64(keys))
}

// RelativeBiasBackward implements device.Positions.
func (d *Device) RelativeBiasBackward(dtable, dy device.Buffer, bucket []int32, heads, queries, keys int) {
	at := d.ids(bucket)
	defer d.Free(at)
	d.launch(rowsSource[device.F32], "relative_bias_backward", cuda.Grid{X: dtable.Len() / heads, Y: heads, Threads: 256},
		addr(dtable), addr(dy), addr(at), uint64(heads), uint64(queries), uint64(keys))
}

// Gather implements device.Tables.
func (d *Device) Gather(y, table device.Buffer, ids []int32, dim int) {
	at := d.ids(ids)
	defer d.Free(at)
	d.rows(rowsSource[y.Format()], "gather", len(ids), dim, addr(y), addr(table), uint64(table.Format()), addr(at), uint64(dim))
}

// ScatterAdd implements device.Tables. Rows with the same id are added in their order.
func (d *Device) ScatterAdd(dtable, dy device.Buffer, ids []int32, dim int) {
	order := make([]int32, len(ids))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return int(ids[a]) - int(ids[b]) })
	var different, first []int32
	for i, at := range order {
		if i == 0 || ids[at] != different[len(different)-1] {
			different, first = append(different, ids[at]), append(first, int32(i))
		}
	}
	if len(different) == 0 {
		return
	}
	which, from, in := d.ids(different), d.ids(append(first, int32(len(order)))), d.ids(order)
	d.rows(rowsSource[dy.Format()], "scatter_add", len(different), dim, addr(dtable), addr(dy), addr(which), addr(from), addr(in), uint64(dim))
	for _, b := range []device.Buffer{which, from, in} {
		d.Free(b)
	}
}

// ClearRows implements device.Tables.
func (d *Device) ClearRows(y device.Buffer, ids []int32, id int32, dim int) {
	if !slices.Contains(ids, id) {
		return
	}
	at := d.ids(ids)
	defer d.Free(at)
	d.rows(rowsSource[y.Format()], "clear_rows", len(ids), dim, addr(y), addr(at), uint64(int64(id)), uint64(dim))
}
