//go:build cuda && linux

package cuda

import (
	"fmt"
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
		d.gpu.Copy(dst.Addr(), x.Addr(), dst.Format().Bytes(n))
	default:
		d.convert(dst, x, n)
	}
}

// Clear implements device.Elementwise.
func (d *Device) Clear(dst device.Buffer) {
	if dst.Len() > 0 && !d.stopped() {
		d.gpu.Clear(dst.Addr(), dst.Format().Bytes(dst.Len()))
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
	if x.Format() != dst.Format() { // the kernel would read or write beyond a buffer
		d.fail(fmt.Errorf("axpy of formats %d and %d", x.Format(), dst.Format()))
	}
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

// CopyRows implements device.Elementwise.
func (d *Device) CopyRows(dst, x device.Rows, rows, dim int) {
	if d.inside("copy of rows", rows, dim, dst, x) {
		d.convertRows(dst, x, rows, dim)
	}
}

// Gate implements device.Elementwise.
func (d *Device) Gate(act activation.Func, y device.Buffer, gate, up device.Rows, rows, dim int) {
	n := rows * dim
	if !d.inside(act.String(), rows, dim, device.Rows{Buffer: y, LD: dim}, gate, up) {
		return
	}
	if gate.LD == dim && up.LD == dim {
		rows, dim = 1, n
	}
	d.each(elementwiseSource[y.Format()], "gate", n, uint64(act), addr(y), addr(gate.Buffer), uint64(gate.LD), addr(up.Buffer), uint64(up.LD),
		uint64(rows), uint64(dim))
}

// GateBackward implements device.Elementwise.
func (d *Device) GateBackward(act activation.Func, dgate, dup device.Rows, dy device.Buffer, gate, up device.Rows, rows, dim int) {
	n := rows * dim
	if !d.inside(act.String(), rows, dim, dgate, dup, device.Rows{Buffer: dy, LD: dim}, gate, up) {
		return
	}
	if dgate.LD == dim && dup.LD == dim && gate.LD == dim && up.LD == dim {
		rows, dim = 1, n
	}
	d.each(elementwiseSource[dy.Format()], "gate_backward", n, uint64(act), addr(dgate.Buffer), uint64(dgate.LD), addr(dup.Buffer), uint64(dup.LD), addr(dy),
		addr(gate.Buffer), uint64(gate.LD), addr(up.Buffer), uint64(up.LD), uint64(rows), uint64(dim))
}

// Gemm implements device.Products.
func (d *Device) Gemm(ta, tb bool, m, n, k int, alpha float32, a device.Buffer, lda int, b device.Buffer, ldb int, beta float32, c device.Buffer, ldc int) {
	if m == 0 || n == 0 || d.stopped() {
		return
	}
	d.gpu.Multiply(cuda.Product{
		TA: ta, TB: tb, M: m, N: n, K: k, Alpha: alpha, Beta: beta, A: matrix(a, lda), B: matrix(b, ldb), C: matrix(c, ldc),
		Fastest: d.options.Nondeterministic && a.Format() != device.F32, Rounded: d.rounds && a.Format() == device.F32,
	})
}

// types are the formats in cuBLAS's terms.
var types = [...]cuda.Type{device.F32: cuda.F32, device.BF16: cuda.BF16, device.F16: cuda.F16}

func matrix(b device.Buffer, ld int) cuda.Matrix {
	return cuda.Matrix{At: b.Addr(), Type: types[b.Format()], LD: ld}
}

// Multiply implements device.Products. For many rows, weights in a format other than x's are converted first.
func (d *Device) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for len(ps) > 0 {
		if n := d.multiplySkinny(rows, k, x, ps); n > 0 {
			ps = ps[n:]
			continue
		}
		p := ps[0]
		ps = ps[1:]
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
	d.each(rowsSource[y.Format()], "add_rows", rows*dim, addr(y), addr(bias), vectors(y.Format(), []device.Buffer{y, bias}, dim), uint64(rows), uint64(dim))
}

// width is the number of numbers that a thread reads or writes at a time, 16 bytes.
func width(f device.Format) int { return 16 / f.Size() }

// vectors returns 1 if operands in f can be accessed 16 bytes at a time, otherwise 0. Distances are those of rows, in
// numbers.
func vectors(f device.Format, operands []device.Buffer, distances ...int) uint64 {
	for _, b := range operands {
		if b.Addr()%16 != 0 {
			return 0
		}
	}
	for _, n := range distances {
		if n%width(f) != 0 {
			return 0
		}
	}
	return 1
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
	wide, columns := vectors(dy.Format(), []device.Buffer{dy, x}, dim/heads), 32
	if wide == 1 {
		columns *= width(dy.Format())
	}
	d.launch(rowsSource[dy.Format()], "column_sums", cuda.Grid{X: (dim + columns - 1) / columns, Y: parts, TX: 32, TY: 8},
		addr(part), addr(dy), addr(x), addr(mean), addr(inv), uint64(heads), wide, uint64(rows), uint64(dim), per)
	d.addParts(dst, part, parts, dim)
}

// addParts adds the sums of the columns of part [parts, dim] to dst [dim].
func (d *Device) addParts(dst, part device.Buffer, parts, dim int) {
	d.launch(rowsSource[device.F32], "add_parts", cuda.Grid{X: (dim + 31) / 32, TX: 32, TY: 32}, addr(dst), addr(part), uint64(parts), uint64(dim))
}

// normHeads returns the number of heads in the weight [heads, dim] of a norm.
func normHeads(w device.Buffer, dim int) uint64 { return uint64(max(w.Len()/dim, 1)) }

// normGrid returns the launch of a norm of rows [rows, dim], of which a block computes TY·per, and the number of vectors of a row
// that a thread keeps: the first of chunks with which no thread is idle, or else the first that suffices; 0 if memory is accessed
// number by number.
func normGrid(f device.Format, rows, dim int, chunks []int, per int, operands ...device.Buffer) (grid cuda.Grid, chunk int) {
	const most = 512 // threads, so that each can have the registers that it needs
	grid = cuda.Grid{TX: rowThreads(dim), TY: 1}
	for _, c := range chunks {
		tx := (dim + width(f)*c - 1) / (width(f) * c)
		if tx > most {
			continue
		}
		whole := tx*width(f)*c == dim && (tx%32 == 0 || tx < 32 && tx&(tx-1) == 0)
		if chunk == 0 || whole {
			grid.TX, chunk = tx, c
		}
		if whole {
			break
		}
	}
	switch {
	case chunk == 0 || vectors(f, operands, dim) == 0:
		grid.TX, chunk = rowThreads(dim), 0
	case grid.TX > 32:
		grid.TX = (grid.TX + 31) / 32 * 32
	default:
		tx := grid.TX
		for grid.TX = 1; grid.TX < tx; grid.TX *= 2 {
		}
	}
	if chunk > 0 && grid.TX <= 32 {
		grid.TY = 256 / grid.TX
	}
	grid.X = (rows + grid.TY*per - 1) / (grid.TY * per)
	return grid, chunk
}

// RMSNorm implements device.Norms.
func (d *Device) RMSNorm(y, inv, x, w device.Buffer, rows, dim int, eps float32) {
	d.AddRMSNorm(y, inv, device.Buffer{}, x, device.Buffer{}, w, rows, dim, eps)
}

// normChunks and normBackwardChunks are the numbers of vectors of a row that a thread can keep in the norms and in their
// gradients, which the kernels have too, the best first. A thread computes the gradients of normBackwardRows rows; a block's sums
// depend on the shape alone.
var (
	normChunks         = []int{4, 3, 2}
	fewNormChunks      = []int{1, 2, 3, 4}
	normBackwardChunks = []int{2, 3, 1}
)

const normBackwardRows = 16

// normChunks returns the numbers of chunks for so many rows: few rows have more threads each, as multiprocessors are idle.
func (d *Device) normChunks(rows int) []int {
	if rows <= d.gpu.Units {
		return fewNormChunks
	}
	return normChunks
}

// AddRMSNorm implements device.Norms.
func (d *Device) AddRMSNorm(y, inv, sum, x, z, w device.Buffer, rows, dim int, eps float32) {
	if rows == 0 {
		return
	}
	grid, chunk := normGrid(y.Format(), rows, dim, d.normChunks(rows), 1, y, sum, x, z, w)
	d.launch(rowsSource[y.Format()], "rms_norm", grid, addr(y), addr(inv), addr(sum), addr(x), addr(z), addr(w), normHeads(w, dim), uint64(chunk),
		uint64(rows), uint64(dim), cuda.Float(eps))
}

// LayerNorm implements device.Norms.
func (d *Device) LayerNorm(y, mean, inv, x, w, b device.Buffer, rows, dim int, eps float32) {
	d.AddLayerNorm(y, mean, inv, device.Buffer{}, x, device.Buffer{}, w, b, rows, dim, eps)
}

// AddLayerNorm implements device.Norms.
func (d *Device) AddLayerNorm(y, mean, inv, sum, x, z, w, b device.Buffer, rows, dim int, eps float32) {
	if rows == 0 {
		return
	}
	grid, chunk := normGrid(y.Format(), rows, dim, d.normChunks(rows), 1, y, sum, x, z, w, b)
	d.launch(rowsSource[y.Format()], "layer_norm", grid, addr(y), addr(mean), addr(inv), addr(sum), addr(x), addr(z), addr(w), addr(b),
		max(normHeads(w, dim), normHeads(b, dim)), uint64(chunk), uint64(rows), uint64(dim), cuda.Float(eps))
}

// RMSNormBackward implements device.Norms.
func (d *Device) RMSNormBackward(dx, dw, dy, x, w, inv device.Buffer, rows, dim int, add bool) {
	d.normBackward("rms_norm_backward", dx, dw, device.Buffer{}, dy, x, w, device.Buffer{}, inv, rows, dim, add)
}

// LayerNormBackward implements device.Norms.
func (d *Device) LayerNormBackward(dx, dw, db, dy, x, w, mean, inv device.Buffer, rows, dim int, add bool) {
	d.normBackward("layer_norm_backward", dx, dw, db, dy, x, w, mean, inv, rows, dim, add)
}

// normBackward launches the kernel of a norm's gradient, which also sums the gradients of its weight and bias unless there
// are several heads. Only LayerNorm has mean and db.
func (d *Device) normBackward(kernel string, dx, dw, db, dy, x, w, mean, inv device.Buffer, rows, dim int, add bool) {
	if rows == 0 {
		return
	}
	if heads := int(normHeads(dw, dim)); heads > 1 { // before dx, which may be dy
		d.sumColumns(dw, dy, x, mean, inv, heads, rows/heads, heads*dim)
		dw = device.Buffer{}
	}
	if heads := int(normHeads(db, dim)); heads > 1 {
		d.SumRows(db, dy, rows/heads, heads*dim)
		db = device.Buffer{}
	}
	grid, chunk := normGrid(dx.Format(), rows, dim, normBackwardChunks, normBackwardRows, dx, dy, x, w)
	if grid.TY > 1 {
		grid.Shared = 4 * grid.TY * dim
	}
	part := func(sum device.Buffer) (b device.Buffer) {
		if !sum.None() {
			b = d.New(device.F32, grid.X*dim)
		}
		return b
	}
	dwPart, dbPart, adds := part(dw), part(db), uint64(0)
	if add {
		adds = 1
	}
	args := []uint64{addr(dx), addr(dwPart)}
	if kernel == "layer_norm_backward" {
		args = append(args, addr(dbPart))
	}
	args = append(args, addr(dy), addr(x), addr(w))
	if kernel == "layer_norm_backward" {
		args = append(args, addr(mean))
	}
	d.launch(rowsSource[dx.Format()], kernel, grid, append(args, addr(inv), normHeads(w, dim), uint64(chunk), uint64(rows), uint64(dim), normBackwardRows, adds)...)
	for _, s := range [][2]device.Buffer{{dw, dwPart}, {db, dbPart}} {
		if !s[0].None() {
			d.addParts(s[0], s[1], grid.X, dim)
			d.Free(s[1])
		}
	}
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
	r := &rope{d.Put(cosines), d.Put(sines), positions, planes, interleaved}
	if d.stopped() { // it may be unfinished
		d.Free(r.cosines)
		d.Free(r.sines)
		return &rope{planes: planes}
	}
	return r
}

// FreeRope implements device.Positions.
func (d *Device) FreeRope(r device.Rope) {
	d.Free(r.(*rope).cosines)
	d.Free(r.(*rope).sines)
}

// Rotate implements device.Positions.
func (d *Device) Rotate(r device.Rope, y, x device.Rows, pos []int32, heads, headDim int, inverse bool) {
	t, sign, interleaved := r.(*rope), float32(1), uint64(0)
	if !d.inside("rotation", len(pos), heads*headDim, y, x) {
		return
	}
	if inverse {
		sign = -1
	}
	if t.interleaved {
		interleaved = 1
	}
	at := d.positions(pos)
	wide := vectors(y.Format(), []device.Buffer{y.Buffer, x.Buffer, t.cosines, t.sines}, y.LD, x.LD, headDim, t.planes)
	d.each(rowsSource[y.Format()], "rotate", len(pos)*((heads+7)/8)*headDim, addr(y.Buffer), uint64(y.LD), addr(x.Buffer), uint64(x.LD), addr(at),
		addr(t.cosines), addr(t.sines), wide, uint64(len(pos)), uint64(heads), uint64(headDim), uint64(t.planes), interleaved, cuda.Float(sign))
}

// RelativeBias implements device.Positions.
func (d *Device) RelativeBias(y, table device.Buffer, bucket []int32, heads, queries, keys int) {
	d.relativeBias(y, table, bucket, device.Buffer{}, heads, queries, keys)
}

// NextBias implements device.Replayer.
func (d *Device) NextBias(r *device.Replay, y, table device.Buffer, bucket []int32, heads, keys int) {
	d.relativeBias(y, table, bucket, d.replay.first(r.First), heads, 1, keys)
}

func (d *Device) relativeBias(y, table device.Buffer, bucket []int32, first device.Buffer, heads, queries, keys int) {
	at := d.ids(bucket)
	defer d.Free(at)
	d.each(rowsSource[device.F32], "relative_bias", heads*queries*keys, addr(y), addr(table), addr(at), addr(first), uint64(heads), uint64(queries), uint64(keys))
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
	wide := vectors(y.Format(), []device.Buffer{y, table}, dim)
	d.rows(rowsSource[y.Format()], "gather", len(ids), dim, addr(y), addr(table), uint64(table.Format()), addr(at), wide, uint64(dim))
}

// ScatterAdd implements device.Tables. Rows with the same id are added in their order.
func (d *Device) ScatterAdd(dtable, dy device.Buffer, ids []int32, dim int) {
	// A counting sort, which keeps the order of rows with the same id.
	next := make([]int32, dtable.Len()/dim+1) // of an id: where the next of its rows goes
	for _, id := range ids {
		next[id+1]++
	}
	var different, first []int32
	for id := range next[1:] {
		if next[id+1] > 0 {
			different, first = append(different, int32(id)), append(first, next[id])
		}
		next[id+1] += next[id]
	}
	order := make([]int32, len(ids))
	for i, id := range ids {
		order[next[id]] = int32(i)
		next[id]++
	}
	if len(different) == 0 {
		return
	}
	which, from, in := d.ids(different), d.ids(append(first, int32(len(order)))), d.ids(order)
	wide := vectors(dy.Format(), []device.Buffer{dy, dtable}, dim)
	d.rows(rowsSource[dy.Format()], "scatter_add", len(different), dim, addr(dtable), uint64(dtable.Format()), addr(dy), addr(which), addr(from), addr(in),
		wide, uint64(dim))
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
