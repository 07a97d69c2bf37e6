// Package cpu implements a device on the CPU. Buffers are slices, and operations are the kernels in internal/cpu: they
// use all threads and are done when they return.
package cpu

import (
	"context"
	"math"

	"gqa/internal/activation"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/nn"
	"gqa/internal/cpu/optim"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
	"gqa/internal/cpu/solve"
	"gqa/internal/device"
)

// Device is the CPU. It reuses freed buffers for new ones of the same length.
type Device struct {
	free   map[int][][]float32
	memory memory.Slab
	ctx    context.Context
	stop   func() bool // stopped; created once to avoid allocations

	products []blas.Product // for Multiply
	storing  store
	store    func(lo, hi int) // for Store; created once to avoid allocations
}

var _ device.Device = (*Device)(nil)

// New returns the CPU device without any buffers.
func New() *Device {
	d := &Device{free: map[int][][]float32{}, ctx: context.Background()}
	d.store, d.stop = d.storing.rows, d.stopped
	return d
}

// Until implements device.Device.
func (d *Device) Until(ctx context.Context) { d.ctx = ctx }

// Activations implements device.Device.
func (*Device) Activations() device.Format { return device.F32 }

// LogitsAtOnce implements device.Device: 16 MiB.
func (*Device) LogitsAtOnce() int { return 1 << 22 }

// Err implements device.Device. No operation fails.
func (*Device) Err() error { return nil }

func (d *Device) stopped() bool { return d.ctx.Err() != nil }

// SetThreads makes kernels use n threads; 0 means one per core.
func SetThreads(n int) { pool.SetThreads(n) }

// New implements device.Memory. It requests huge pages.
func (d *Device) New(f device.Format, n int) device.Buffer {
	if f.Scaled() || f.Coded() {
		x := make([]byte, f.Bytes(n))
		memory.HugePages(x)
		return device.HostBytes(f, x, n)
	}
	if f != device.F32 {
		x := make([]uint16, n)
		memory.HugePages(x)
		return device.Host16(f, x)
	}
	if free := d.free[n]; len(free) > 0 {
		d.free[n] = free[:len(free)-1]
		return device.HostF32(free[len(free)-1])
	}
	return device.HostF32(d.memory.Make(n))
}

// Free implements device.Memory.
func (d *Device) Free(b device.Buffer) {
	if x := b.F32(); x != nil {
		d.free[len(x)] = append(d.free[len(x)], x)
	}
}

// Put implements device.Memory.
func (*Device) Put(x []float32) device.Buffer { return device.HostF32(x) }

// Unload implements device.Memory. What Put and Load return is the caller's memory, or is left to the garbage collector.
func (*Device) Unload(device.Buffer) {}

// Load implements device.Memory. It requests huge pages.
func (d *Device) Load(f device.Format, x []float32, rows, cols int, multiplied bool) device.Buffer {
	if f == device.F32 {
		memory.CollapsePages(x)
		return device.HostF32(x)
	}
	b := d.New(f, len(x))
	blas.EncodeHalf(half(f), b.U16(), x)
	if multiplied {
		if packed := blas.PackHalf(half(f), rows, cols, b.U16()); packed != nil {
			return device.Own(packed, f, len(x))
		}
	}
	return b
}

// Write implements device.Memory.
func (*Device) Write(dst device.Buffer, x []float32) {
	if dst.Format() == device.F32 {
		copy(dst.F32(), x)
	} else {
		blas.EncodeHalf(half(dst.Format()), dst.U16()[:len(x)], x)
	}
}

// Split implements device.Memory.
func (*Device) Split(high, rest, x device.Buffer) {
	h, r := high.U16(), rest.U16()
	for i, v := range x.F32() {
		bits := math.Float32bits(v)
		if v != v {
			bits = 0x7fc00000
		}
		near := bits + 0x8000 // halves are rounded up, so that the difference fits into 16 bits
		h[i], r[i] = uint16(near>>16), uint16(bits-near&^0xffff)
	}
}

// Join implements device.Memory.
func (*Device) Join(x, high, rest device.Buffer) {
	h, r := high.U16(), rest.U16()
	for i := range x.F32() {
		x.F32()[i] = math.Float32frombits(uint32(h[i])<<16 + uint32(int32(int16(r[i]))))
	}
}

// Host implements device.Memory.
func (*Device) Host(b device.Buffer) []float32 { return b.F32() }

// Copy implements device.Elementwise.
func (d *Device) Copy(dst, x device.Buffer) {
	switch to, from := dst.Format(), x.Format(); {
	case to == from:
		copy(dst.U16(), x.U16())
		copy(dst.Bytes(), x.Bytes())
		blas.Copy(dst.F32(), x.F32())
	case to == device.F32:
		blas.DecodeHalf(half(from), dst.F32(), x.U16())
	case from == device.F32:
		blas.EncodeHalf(half(to), dst.U16(), x.F32())
	default:
		wide := d.New(device.F32, x.Len())
		d.Copy(wide, x)
		d.Copy(dst, wide)
		d.Free(wide)
	}
}

// Clear implements device.Elementwise.
func (*Device) Clear(dst device.Buffer) {
	blas.Clear(dst.F32())
	clear(dst.U16())
	clear(dst.Bytes())
}

// Add implements device.Elementwise.
func (d *Device) Add(dst, x, y device.Buffer) {
	if !d.stopped() {
		blas.Add(dst.F32(), x.F32(), y.F32())
	}
}

// Axpy implements device.Elementwise.
func (*Device) Axpy(s float32, x, dst device.Buffer) { blas.Axpy(s, x.F32(), dst.F32()) }

// Scale implements device.Elementwise.
func (*Device) Scale(dst device.Buffer, s float32) { blas.Scale(dst.F32(), s) }

// ScaleBy implements device.Elementwise.
func (*Device) ScaleBy(dst, s device.Buffer) {
	if s := s.F32()[0]; s != 1 {
		blas.Scale(dst.F32(), s)
	}
}

// Shift implements device.Elementwise.
func (*Device) Shift(dst, x device.Buffer, s float32) { blas.Shift(dst.F32(), x.F32(), s) }

// Clip implements device.Elementwise.
func (*Device) Clip(dst, x device.Buffer, m float32) { nn.Clip(dst.F32(), x.F32(), m) }

// ClipBackward implements device.Elementwise.
func (*Device) ClipBackward(dx, dy, x device.Buffer, m float32) {
	nn.ClipBackward(dx.F32(), dy.F32(), x.F32(), m)
}

// Lerp implements device.Elementwise.
func (*Device) Lerp(dst, x device.Buffer, s float32) { blas.Lerp(dst.F32(), x.F32(), s) }

// Swap implements device.Elementwise.
func (*Device) Swap(x, y device.Buffer) { blas.Swap(x.F32(), y.F32()) }

// Activate implements device.Elementwise.
func (d *Device) Activate(act activation.Func, y, x device.Buffer) {
	if d.stopped() {
		return
	}
	nn.Activate(act, y.F32(), x.F32())
}

// ActivateBackward implements device.Elementwise.
func (*Device) ActivateBackward(act activation.Func, dx, dy, x device.Buffer) {
	nn.ActivateBackward(act, dx.F32(), dy.F32(), x.F32())
}

// CopyRows implements device.Elementwise.
func (*Device) CopyRows(dst, x device.Rows, rows, dim int) {
	for r := range rows {
		copy(row(dst, r, dim), row(x, r, dim))
	}
}

// row returns row r of a matrix.
func row(m device.Rows, r, dim int) []float32 { return m.F32()[r*m.LD:][:dim] }

// whole reports whether matrices [rows, dim] have no gaps.
func whole(dim int, ms ...device.Rows) bool {
	for _, m := range ms {
		if m.LD != dim {
			return false
		}
	}
	return true
}

// Gate implements device.Elementwise.
func (d *Device) Gate(act activation.Func, y device.Buffer, gate, up device.Rows, rows, dim int) {
	switch n := rows * dim; {
	case d.stopped():
	case whole(dim, gate, up):
		nn.Gate(act, y.F32()[:n], gate.F32()[:n], up.F32()[:n])
	default:
		for r := range rows {
			nn.Gate(act, y.F32()[r*dim:][:dim], row(gate, r, dim), row(up, r, dim))
		}
	}
}

// GateBackward implements device.Elementwise.
func (*Device) GateBackward(act activation.Func, dgate, dup device.Rows, dy device.Buffer, gate, up device.Rows, rows, dim int) {
	if n := rows * dim; whole(dim, dgate, dup, gate, up) {
		nn.GateBackward(act, dgate.F32()[:n], dup.F32()[:n], dy.F32()[:n], gate.F32()[:n], up.F32()[:n])
		return
	}
	for r := range rows {
		nn.GateBackward(act, row(dgate, r, dim), row(dup, r, dim), dy.F32()[r*dim:][:dim], row(gate, r, dim), row(up, r, dim))
	}
}

// JoinHeads implements device.Elementwise.
func (d *Device) JoinHeads(y, a, b device.Rows, rows, heads, m, n int, shared bool) {
	if d.stopped() {
		return
	}
	each := n // from one head of b to the next
	if shared {
		each = 0
	}
	for r := range rows {
		for h := range heads {
			to := row(y, r, heads*(m+n))[h*(m+n):][:m+n]
			clear(to)
			if !a.None() {
				copy(to[:m], a.F32()[r*a.LD+h*m:])
			}
			if !b.None() {
				copy(to[m:], b.F32()[r*b.LD+h*each:])
			}
		}
	}
}

// SplitHeads implements device.Elementwise.
func (*Device) SplitHeads(a, b, y device.Rows, rows, heads, m, n int, shared bool) {
	for r := range rows {
		for h := range heads {
			from := row(y, r, heads*(m+n))[h*(m+n):][:m+n]
			if !a.None() {
				copy(a.F32()[r*a.LD+h*m:][:m], from)
			}
			switch {
			case b.None():
			case !shared:
				copy(b.F32()[r*b.LD+h*n:][:n], from[m:])
			case h == 0:
				copy(row(b, r, n), from[m:])
			default:
				simd.Axpy(1, from[m:], row(b, r, n))
			}
		}
	}
}

// Gemm implements device.Products.
func (d *Device) Gemm(ta, tb bool, m, n, k int, alpha float32, a device.Buffer, lda int, b device.Buffer, ldb int, beta float32, c device.Buffer, ldc int) {
	if !d.stopped() {
		blas.Gemm(ta, tb, m, n, k, alpha, a.F32(), lda, b.F32(), ldb, beta, c.F32(), ldc)
	}
}

// rowsAtOnce is the number of rows multiplied between two checks of the context.
const rowsAtOnce = 1024

// Multiply implements device.Products.
func (d *Device) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for first := 0; first < rows && !d.stopped(); first += rowsAtOnce {
		n := min(rowsAtOnce, rows-first)
		d.products = d.products[:0]
		for _, p := range ps {
			packed, _ := p.W.Form().(*blas.Packed)
			d.products = append(d.products, blas.Product{
				N: p.N, Y: p.Y.F32()[first*p.N : (first+n)*p.N], W: p.W.F32(), Half: p.W.U16(), Format: half(p.W.Format()), Packed: packed,
			})
		}
		blas.GroupedGemmNT(n, k, x.F32()[first*k:], k, d.products)
	}
}

// MultiplyHeads implements device.Products.
func (d *Device) MultiplyHeads(trans bool, heads, rows, n, k int, y, x device.Heads, w device.Buffer) {
	if !d.stopped() {
		nn.MultiplyHeads(nn.HeadProduct{
			Trans: trans, Heads: heads, Rows: rows, N: n, K: k, Y: view(y), X: view(x), W: w.F32(), Half: w.U16(), Format: half(w.Format()),
		})
	}
}

// AddRows implements device.Products.
func (d *Device) AddRows(y, bias device.Buffer, rows, dim int) {
	if !d.stopped() {
		nn.AddRows(y.F32(), bias.F32(), rows, dim)
	}
}

// SumRows implements device.Products.
func (*Device) SumRows(dbias, dy device.Buffer, rows, dim int) {
	nn.SumRows(dbias.F32(), dy.F32(), rows, dim)
}

// RMSNorm implements device.Norms.
func (d *Device) RMSNorm(y, inv, x, w device.Buffer, rows, dim int, eps float32) {
	if d.stopped() {
		return
	}
	nn.RMSNorm(y.F32(), inv.F32(), x.F32(), w.F32(), rows, dim, eps)
}

// RMSNormBackward implements device.Norms.
func (d *Device) RMSNormBackward(dx, dw, dy, x, w, inv device.Buffer, rows, dim int, add bool) {
	d.written(dx, add, func(dx device.Buffer) {
		nn.RMSNormBackward(dx.F32(), dw.F32(), dy.F32(), x.F32(), w.F32(), inv.F32(), rows, dim)
	})
}

// written calls write, which overwrites dst, or adds to dst what write writes.
func (d *Device) written(dst device.Buffer, add bool, write func(dst device.Buffer)) {
	if !add {
		write(dst)
		return
	}
	scratch := d.New(device.F32, dst.Len())
	write(scratch)
	d.Axpy(1, scratch, dst)
	d.Free(scratch)
}

// AddRMSNorm implements device.Norms.
func (d *Device) AddRMSNorm(y, inv, sum, x, z, w device.Buffer, rows, dim int, eps float32) {
	d.Add(sum, x, z)
	d.RMSNorm(y, inv, sum, w, rows, dim, eps)
}

// LayerNorm implements device.Norms.
func (d *Device) LayerNorm(y, mean, inv, x, w, b device.Buffer, rows, dim int, eps float32) {
	if d.stopped() {
		return
	}
	nn.LayerNorm(y.F32(), mean.F32(), inv.F32(), x.F32(), w.F32(), b.F32(), rows, dim, eps)
}

// LayerNormBackward implements device.Norms.
func (d *Device) LayerNormBackward(dx, dw, db, dy, x, w, mean, inv device.Buffer, rows, dim int, add bool) {
	d.written(dx, add, func(dx device.Buffer) {
		nn.LayerNormBackward(dx.F32(), dw.F32(), db.F32(), dy.F32(), x.F32(), w.F32(), mean.F32(), inv.F32(), rows, dim)
	})
}

// AddLayerNorm implements device.Norms.
func (d *Device) AddLayerNorm(y, mean, inv, sum, x, z, w, b device.Buffer, rows, dim int, eps float32) {
	d.Add(sum, x, z)
	d.LayerNorm(y, mean, inv, sum, w, b, rows, dim, eps)
}

// NewRope implements device.Positions.
func (*Device) NewRope(invFreq []float64, positions int, scale float64, interleaved bool) device.Rope {
	return nn.NewRopeTable(invFreq, positions, scale, interleaved)
}

// FreeRope implements device.Positions.
func (*Device) FreeRope(device.Rope) {}

// Rotate implements device.Positions.
func (d *Device) Rotate(r device.Rope, y, x device.Rows, pos []int32, heads, headDim int, inverse bool) {
	table, dim := r.(*nn.RopeTable), heads*headDim
	switch {
	case d.stopped():
	case whole(dim, y, x):
		table.Rotate(y.F32(), x.F32(), pos, heads, headDim, inverse)
	default:
		for i := range pos {
			table.Rotate(row(y, i, dim), row(x, i, dim), pos[i:i+1], heads, headDim, inverse)
		}
	}
}

// RelativeBias implements device.Positions.
func (*Device) RelativeBias(y, table device.Buffer, bucket []int32, heads, queries, keys int) {
	nn.RelativeBias(y.F32(), table.F32(), bucket, heads, queries, keys)
}

// RelativeBiasBackward implements device.Positions.
func (*Device) RelativeBiasBackward(dtable, dy device.Buffer, bucket []int32, heads, queries, keys int) {
	nn.RelativeBiasBackward(dtable.F32(), dy.F32(), bucket, heads, queries, keys)
}

// Attend implements device.Attention.
func (d *Device) Attend(s device.Scores, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	if d.stopped() {
		return
	}
	nn.Attend(d.scores(s), view(out), lse.F32(), view(q), view(k), view(v))
}

// AttendBackward implements device.Attention.
func (d *Device) AttendBackward(s device.Scores, dq, dk, dv device.Heads, dbias device.Buffer, dout, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	if d.stopped() {
		return
	}
	a := d.scores(s)
	a.BiasGrad = dbias.F32()
	nn.AttendBackward(a, view(dq), view(dk), view(dv), view(dout), view(out), lse.F32(), view(q), view(k), view(v))
}

// store holds the arguments of Store.
type store struct {
	keys, values           nn.View
	k, v                   []float32
	first, tokens, headDim int
}

// Store implements device.Attention. It uses all threads: most of the time is spent fetching the cache lines of the
// destinations, which are far apart.
func (d *Device) Store(keys, values device.Heads, first int, k, v device.Buffer, seqs, tokens, headDim int) {
	const headsPerTask = 8
	if d.stopped() {
		return
	}
	d.storing = store{view(keys), view(values), k.F32(), v.F32(), first, tokens, headDim}
	pool.For(seqs*tokens, max(1, headsPerTask*keys.Head/keys.Seq), d.store)
	d.storing = store{}
}

// rows stores tokens [lo,hi) of all sequences.
func (s *store) rows(lo, hi int) {
	heads := s.keys.Seq / s.keys.Head
	for i := lo; i < hi; i++ {
		seq, t := i/s.tokens, s.first+i%s.tokens
		for h := range heads {
			at, from := seq*s.keys.Seq+h*s.keys.Head+t*s.keys.Row, (i*heads+h)*s.headDim
			put(s.keys, at, s.k[from:from+s.headDim])
			if s.v != nil {
				put(s.values, at, s.v[from:from+s.headDim])
			}
		}
	}
}

// put writes one head's row of a token.
func put(v nn.View, at int, row []float32) {
	switch {
	case v.Ints != 0:
		v.Scales[at/v.Row] = v.Ints.Encode(v.Bytes[v.Ints.Bytes(at):], row)
	case v.Format == simd.F32:
		copy(v.Data[at:], row)
	default:
		blas.EncodeHalf(v.Format, v.Half[at:at+len(row)], row)
	}
}

// Quantizes implements device.Quantizer.
func (*Device) Quantizes() {}

// Sinks implements device.Sinker.
func (*Device) Sinks() {}

func (d *Device) scores(s device.Scores) nn.Attention {
	return nn.Attention{
		Batch: s.Batch, Queries: s.Queries, Keys: s.Keys, KeyLens: s.KeyLens, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim,
		ValueDim: s.ValueDim, Scale: s.Scale, Causal: s.Causal, Window: s.Window, Firsts: s.Firsts, Sinks: s.Sinks, SinkQueries: view(s.SinkQueries), Slopes: s.Slopes, CoarseSlopes: s.CoarseSlopes, Bias: s.Bias.F32(),
		Stop: d.stop,
	}
}

func view(h device.Heads) nn.View {
	v := nn.View{Data: h.F32(), Seq: h.Seq, Head: h.Head, Row: h.Row}
	switch f := h.Format(); f {
	case device.Int8, device.Int4:
		v.Ints, v.Bytes, v.Scales = [...]simd.Ints{device.Int8: simd.I8, device.Int4: simd.I4}[f], h.Bytes(), h.Scales.F32()
	default:
		v.Format, v.Half = half(f), h.U16()
	}
	return v
}

// half returns the kernels' name for a format.
func half(f device.Format) simd.Half {
	return [...]simd.Half{device.F32: simd.F32, device.BF16: simd.BF16, device.F16: simd.F16}[f]
}

// Gather implements device.Tables.
func (*Device) Gather(y, table device.Buffer, ids []int32, dim int) {
	if table.Format() != device.F32 {
		nn.GatherHalf(half(table.Format()), y.F32(), table.U16(), ids, dim)
		return
	}
	nn.Gather(y.F32(), table.F32(), ids, dim)
}

// ScatterAdd implements device.Tables.
func (*Device) ScatterAdd(dtable, dy device.Buffer, ids []int32, dim int) {
	nn.ScatterAdd(dtable.F32(), dy.F32(), ids, dim)
}

// ClearRows implements device.Tables.
func (*Device) ClearRows(y device.Buffer, ids []int32, id int32, dim int) {
	for i, other := range ids {
		if other == id {
			clear(y.F32()[i*dim:][:dim])
		}
	}
}

// CrossEntropy implements device.Losses.
func (*Device) CrossEntropy(ce, logits device.Buffer, targets []int32, rows, vocab int) {
	nn.CrossEntropy(ce.F32(), nil, logits.F32(), targets, rows, vocab)
}

// CrossEntropyGradient implements device.Losses.
func (*Device) CrossEntropyGradient(ce, logits device.Buffer, targets []int32, scale float32, rows, vocab int) {
	nn.CrossEntropyGradient(ce.F32(), logits.F32(), targets, scale, rows, vocab)
}

// Argmax implements device.Losses.
func (*Device) Argmax(best []int32, logits device.Buffer, rows, vocab int) {
	nn.ArgmaxRows(best, logits.F32(), rows, vocab)
}

// Distill implements device.Losses.
func (*Device) Distill(ce, kl, logits device.Buffer, targets []int32, soft device.Soft, o device.Distillation, scale float32, rows, vocab int) {
	teacher := nn.Soft{Logits: soft.Logits.F32(), K: soft.K, IDs: soft.IDs, LogP: soft.LogP}
	nn.Distill(ce.F32(), kl.F32(), logits.F32(), targets, teacher, nn.Distillation(o), scale, rows, vocab)
}

// TopLogP implements device.Losses.
func (*Device) TopLogP(ids []int32, logP []float32, logits device.Buffer, temperature float32, rows, vocab, k int) {
	nn.TopLogP(ids, logP, logits.F32(), temperature, rows, vocab, k)
}

// Total implements device.Losses.
func (*Device) Total(dst device.Buffer, scale float32, terms ...device.Term) {
	dst.F32()[0] = float32(sum(terms)) * scale
}

// Sum implements device.Losses.
func (*Device) Sum(terms ...device.Term) device.Number {
	total := sum(terms)
	return func() float64 { return total }
}

func sum(terms []device.Term) (total float64) {
	for _, t := range terms {
		part, x := 0.0, t.X.F32()
		if t.X.U16() != nil {
			x = make([]float32, t.X.Len())
			blas.DecodeHalf(half(t.X.Format()), x, t.X.U16())
		}
		if t.Squares {
			part = blas.SumSquares(x)
		} else {
			for _, v := range x {
				part += float64(v)
			}
		}
		total += t.Weight * part
	}
	return total
}

// ClipScale implements device.Optimizers.
func (*Device) ClipScale(scale device.Buffer, limit float64, terms ...device.Term) device.Number {
	norm := math.Sqrt(sum(terms))
	scale.F32()[0] = clipScale(norm, limit)
	return func() float64 { return norm }
}

func clipScale(norm, limit float64) float32 {
	switch {
	case math.IsNaN(norm) || math.IsInf(norm, 0):
		return float32(math.NaN())
	case limit == 0:
		return 1
	}
	return float32(min(1, limit/(norm+1e-6)))
}

// AdamW implements device.Optimizers.
func (d *Device) AdamW(steps []device.AdamWStep, scale device.Buffer, t int) {
	by := scale.F32()[0]
	for _, s := range steps {
		if by != by {
			return
		}
		if s.P.Format() == device.Rest {
			whole := d.New(device.F32, s.P.Len())
			d.Join(whole, s.Copy, s.P)
			adamw(s, whole, by, t)
			d.Split(s.Copy, s.P, whole)
			d.Free(whole)
			continue
		}
		adamw(s, s.P, by, t)
		if !s.Copy.None() {
			d.Write(s.Copy, s.P.F32())
		}
	}
}

// adamw makes a step on p, the parameter as a whole.
func adamw(s device.AdamWStep, p device.Buffer, by float32, t int) {
	o := optim.AdamW(s.AdamW)
	switch {
	case s.M.Format() == device.BF16:
		o.StepStored(p.F32(), s.G.F32(), optim.Halves(s.M.U16()), optim.Halves(s.V.U16()), by, t)
	case s.M.Format().Coded():
		o.StepStored(p.F32(), s.G.F32(), codes(s.M, s.MScales), codes(s.V, s.VScales), by, t)
	default:
		o.Step(p.F32(), s.G.F32(), s.M.F32(), s.V.F32(), by, t)
	}
}

func codes(b, scales device.Buffer) optim.Codes {
	return optim.Codes{Bytes: b.Bytes(), Scales: scales.F32(), Signed: b.Format() == device.Signed8}
}

// Encode implements device.Optimizers.
func (*Device) Encode(to, scales, x device.Buffer) { codes(to, scales).Store(0, x.F32()) }

// Decode implements device.Optimizers.
func (*Device) Decode(x, from, scales device.Buffer) { codes(from, scales).Load(x.F32(), 0) }

// Adafactor implements device.Optimizers.
func (d *Device) Adafactor(steps []device.AdafactorStep, scale device.Buffer, t int) {
	by := scale.F32()[0]
	for _, s := range steps {
		if by != by {
			return
		}
		o, whole := optim.Adafactor(s.Adafactor), s.P
		if s.P.Format() == device.Rest {
			whole = d.New(device.F32, s.P.Len())
			d.Join(whole, s.Copy, s.P)
		}
		if s.Row.None() {
			o.StepWhole(whole.F32(), s.G.F32(), s.V.F32(), by, t)
		} else {
			o.Step(whole.F32(), s.G.F32(), s.Row.F32(), s.Col.F32(), s.Rows, s.Cols, by, t)
		}
		switch {
		case s.P.Format() == device.Rest:
			d.Split(s.Copy, s.P, whole)
			d.Free(whole)
		case !s.Copy.None():
			d.Write(s.Copy, whole.F32())
		}
	}
}

// Muon implements device.Optimizers.
func (d *Device) Muon(steps []device.MuonStep, scale device.Buffer) {
	by := scale.F32()[0]
	if by != by {
		return
	}
	pool.For(len(steps), 1, func(lo, hi int) { // small products are faster in parallel than each on all threads
		for _, s := range steps[lo:hi] {
			o := optim.Muon{LR: s.LR, Size: s.Size, Momentum: s.Momentum, Decay: s.Decay, Stop: d.stop}
			o.Step(s.P.F32(), s.G.F32(), s.M.F32(), s.Rows, s.Cols, by)
		}
	})
}

// Solve implements device.Systems.
func (d *Device) Solve(s, c []float32, n int, damp float64) []float64 {
	return solve.Symmetric(d.ctx, s, c, n, damp)
}
