//go:build cuda && linux

package cuda

import (
	"errors"
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// Numbers of words of the kernels' parameters.
const (
	scoreWords = 12
	viewWords  = 5
)

// words are parameters of the attention kernels: s is the scores, v a view, 2 a pair, and a point a single word.
func words(layout string) (all []int) {
	for _, c := range layout {
		switch c {
		case 's':
			all = append(all, scoreWords)
		case 'v':
			all = append(all, viewWords)
		case '2':
			all = append(all, 2)
		default:
			all = append(all, 1)
		}
	}
	return all
}

var (
	attendWords = words("sv.vvv")
	deltaWords  = words(".vv...")
	dqWords     = words("sv.v..vvv.")
	dkvWords    = words("svvv..vvv")
	storeWords  = words("vvvv.....")
)

func view(h device.Heads) []uint64 {
	return []uint64{addr(h.Buffer), uint64(h.Seq), uint64(h.Head), uint64(h.Row), uint64(h.Format())}
}

// onDevice is scores with the data that kernels read copied to the GPU's memory.
type onDevice struct {
	device.Scores
	lens, slopes, firsts device.Buffer
}

func (d *Device) scores(s device.Scores) onDevice {
	o := onDevice{Scores: s}
	if s.KeyLens != nil {
		if o.lens = d.replay.lens(s.KeyLens); o.lens.None() {
			o.lens = sent(d, integers(nil, s.KeyLens))
		}
	}
	if s.Slopes != nil {
		o.slopes = sent(d, s.Slopes)
	}
	if s.Firsts != nil {
		o.firsts = sent(d, s.Firsts)
	}
	return o
}

func (d *Device) freeScores(o onDevice) {
	d.Free(o.lens)
	d.Free(o.slopes)
	d.Free(o.firsts)
}

func (o onDevice) words() []uint64 {
	causal := uint64(0)
	if o.Causal {
		causal = 1
	}
	return []uint64{
		addr(o.lens), addr(o.slopes), addr(o.Bias), addr(o.firsts), uint64(o.Queries), uint64(o.Keys), uint64(o.Heads), uint64(o.KVHeads), causal,
		uint64(o.Window), cuda.Float(o.Scale), cuda.Float(o.CoarseSlopes),
	}
}

// attentionKernel launches a kernel with tiles of [tile, width] and of [tile, tile] in shared memory.
func (d *Device) attentionKernel(name string, layout []int, of widths, grid cuda.Grid, tiles, squares int, args ...[]uint64) {
	if of.most() > maxHeadDim {
		d.fail(fmt.Errorf("attention with heads of %d: the largest that fits into the GPU's shared memory is %d", of.most(), maxHeadDim))
	}
	if d.stopped() {
		return
	}
	tile := of.tile()
	if tiles > 0 {
		grid.TX, grid.TY, grid.Shared = 16, 16, 4*(tiles*tile*(of.most()+1)+squares*tile*(tile+1))
	}
	var all []uint64
	for _, a := range args {
		all = append(all, a...)
	}
	d.gpu.Launch(cuda.Kernel{Source: attentionSource(of), Function: name, Words: layout}, grid, all...)
}

// errNotAsked is returned where our own kernels compute attention by design.
var errNotAsked = errors.New("cuDNN is not asked")

// dnnAttention returns the attention in cuDNN's form, or the reason why our own kernels compute it. Rows that see no key are left
// to these, which define their results.
func (d *Device) dnnAttention(s device.Scores, views ...device.Heads) (a cuda.Attention, err error) {
	for _, v := range views {
		if v.Format() != device.BF16 {
			return a, errNotAsked
		}
	}
	a = cuda.Attention{
		Batch: int64(s.Batch), Queries: int64(s.Queries), Keys: int64(s.Keys), Heads: int64(s.Heads), KVHeads: int64(s.KVHeads),
		HeadDim: int64(s.HeadDim), Causal: s.Causal, Scale: s.Scale, ALiBi: s.Slopes != nil, Deterministic: !d.options.Nondeterministic,
	}
	shortest := s.Keys
	for _, n := range s.KeyLens {
		shortest = min(shortest, n)
	}
	a.Padded = shortest < s.Keys
	if s.Window < s.Keys {
		a.Window = int64(s.Window)
	}
	if !s.Bias.None() {
		a.Bias = cuda.BiasBF16
	}
	switch {
	// A plan is for one number of keys, so for tokens that are decoded one by one it would be built each time.
	case d.stopped() || s.Batch == 0 || s.Queries <= 1:
		err = errNotAsked
	case shortest == 0 || s.Causal && shortest < s.Queries:
		err = errors.New("some rows see no key")
	case s.CoarseSlopes != 0:
		err = errors.New("ALiBi is rounded to bfloat16")
	case s.Firsts != nil:
		err = errors.New("documents are packed in windows")
	}
	return a, err
}

// slow notes that our own kernels compute an attention although it is in bfloat16, and why.
func (d *Device) slow(s device.Scores, err error) {
	if !errors.Is(err, errNotAsked) {
		d.note(fmt.Sprintf("attention with %d heads of %d numbers is computed without tensor cores, which is many times slower: %v", s.Heads, s.HeadDim, err))
	}
}

func headView(h device.Heads) cuda.HeadView {
	return cuda.HeadView{At: h.Addr(), Seq: int64(h.Seq), Head: int64(h.Head), Row: int64(h.Row)}
}

// operands returns the operands of attention in cuDNN's form, without the bias.
func (o onDevice) operands(out device.Heads, lse device.Buffer, q, k, v device.Heads) cuda.Operands {
	return cuda.Operands{
		Q: headView(q), K: headView(k), V: headView(v), Out: headView(out), LSE: lse.Addr(), KeyLens: o.lens.Addr(), Slopes: o.slopes.Addr(),
	}
}

// dnnBias returns the bias in cuDNN's form, which must be freed; none if there is none.
func (d *Device) dnnBias(bias device.Buffer) device.Buffer {
	if bias.None() {
		return bias
	}
	b := d.New(device.BF16, bias.Len())
	d.Copy(b, bias)
	return b
}

// prepare gives an attention that cuDNN can compute its workspace, which must be freed, or returns why cuDNN cannot.
func (d *Device) prepare(a cuda.Attention, p *cuda.Operands) error {
	workspace, err := d.gpu.PrepareAttention(a, *p)
	if err == nil && workspace > 0 {
		p.Workspace = d.New(device.F32, int(workspace+3)/4).Addr()
	}
	return err
}

// attendDNN computes attention, or returns the reason why cuDNN cannot.
func (d *Device) attendDNN(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) error {
	a, err := d.dnnAttention(o.Scores, q, k, v, out)
	p := o.operands(out, lse, q, k, v)
	if err == nil {
		err = d.prepare(a, &p)
	}
	if err != nil {
		return err
	}
	defer d.Free(device.At(p.Workspace, device.F32, 1))
	if lse.None() {
		lse = d.New(device.F32, o.Batch*o.Heads*o.Queries)
		defer d.Free(lse)
	}
	bias := d.dnnBias(o.Bias)
	defer d.Free(bias)
	p.LSE, p.Bias = lse.Addr(), bias.Addr()
	if !d.stopped() {
		d.gpu.Attend(a, p)
	}
	return nil
}

// attendBackwardDNN is attendDNN for the gradient.
func (d *Device) attendBackwardDNN(o onDevice, dq, dk, dv device.Heads, dbias device.Buffer, dout, out device.Heads, lse device.Buffer, q, k, v device.Heads) error {
	a, err := d.dnnAttention(o.Scores, q, k, v, out, dq, dk, dv, dout)
	a.Backward, a.BiasGradient = true, !dbias.None()
	p := o.operands(out, lse, q, k, v)
	p.DQ, p.DK, p.DV, p.DOut = headView(dq), headView(dk), headView(dv), headView(dout)
	if err == nil {
		err = d.prepare(a, &p)
	}
	if err != nil {
		return err
	}
	defer d.Free(device.At(p.Workspace, device.F32, 1))
	work := func(f device.Format, n int, wanted bool) (b device.Buffer) {
		if wanted {
			b = d.New(f, n)
		}
		return b
	}
	rows := o.Batch * o.Heads * o.Queries
	delta, sum := work(device.F32, rows, true), work(device.F32, rows*o.HeadDim, a.NeedsSum())
	bias, gradient := d.dnnBias(o.Bias), work(device.BF16, dbias.Len(), a.BiasGradient)
	for _, b := range []device.Buffer{delta, sum, bias, gradient} {
		defer d.Free(b)
	}
	d.Clear(gradient)
	p.Delta, p.Sum, p.Bias, p.DBias = delta.Addr(), sum.Addr(), bias.Addr(), gradient.Addr()
	if !d.stopped() {
		d.gpu.Attend(a, p)
	}
	if a.BiasGradient {
		wide := d.New(device.F32, dbias.Len())
		defer d.Free(wide)
		d.Copy(wide, gradient)
		d.Axpy(1, wide, dbias)
	}
	return nil
}

// Attend implements device.Attention. Sinks come after the window, and many queries of a cache of integers attend to a copy of its numbers.
func (d *Device) Attend(s device.Scores, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	o := d.scores(s)
	defer d.freeScores(o)
	if k.Format().Scaled() && !o.decodesInts(k, v) {
		prefix := o.valuesInKeys(k, v)
		k = d.expanded(o, k)
		defer d.Free(k.Buffer)
		if prefix {
			v = k
		} else {
			v = d.expanded(o, v)
			defer d.Free(v.Buffer)
		}
	}
	if s.Window == 0 || s.Sinks == 0 {
		d.attend(o, out, lse, q, k, v)
		return
	}
	if lse.None() {
		lse = d.New(device.F32, s.Batch*s.Heads*s.Queries)
		defer d.Free(lse)
	}
	d.attend(o, out, lse, q, k, v)
	d.attendSinks(o, out, lse, q, k, v)
}

// attend is Attend without sinks, by the fastest way.
func (d *Device) attend(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	if k.Format().Scaled() {
		d.decodeInts(o, out, lse, q, k, v)
		return
	}
	if d.decode(o, out, lse, q, k, v) {
		return
	}
	err := d.attendPadded(o, out, lse, q, k, v)
	if err == nil {
		return
	}
	d.slow(o.Scores, err)
	of := widthsOf(o.Scores)
	d.attentionKernel("attend", attendWords, of, cuda.Grid{X: of.tiles(o.Queries), Y: o.Heads, Z: o.Batch}, 3, 1,
		o.words(), view(out), []uint64{addr(lse)}, view(q), view(k), view(v))
}

// AttendBackward implements device.Attention.
func (d *Device) AttendBackward(s device.Scores, dq, dk, dv device.Heads, dbias device.Buffer, dout, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	o := d.scores(s)
	defer d.freeScores(o)
	err := d.attendBackwardPadded(o, dq, dk, dv, dbias, dout, out, lse, q, k, v)
	if err == nil {
		return
	}
	d.slow(s, err)
	rows, of := s.Batch*s.Heads*s.Queries, widthsOf(s)
	delta := d.New(device.F32, rows)
	defer d.Free(delta)
	const warps = 8
	d.attentionKernel("attend_delta", deltaWords, of, cuda.Grid{X: (rows + warps - 1) / warps, Threads: 32 * warps}, 0, 0,
		[]uint64{addr(delta)}, view(dout), view(out), []uint64{uint64(s.Batch), uint64(s.Heads), uint64(s.Queries)})
	at := []uint64{addr(lse), addr(delta)}
	batches, each := 1, s.Batch
	if !dbias.None() { // sequences add to the same numbers, so they run one after the other
		batches, each = s.Batch, 1
	}
	for b := range batches {
		d.attentionKernel("attend_dq", dqWords, of, cuda.Grid{X: of.tiles(s.Queries), Y: s.Heads, Z: each}, 4, 1,
			o.words(), view(dq), []uint64{addr(dbias)}, view(dout), at, view(q), view(k), view(v), []uint64{uint64(b)})
	}
	d.attentionKernel("attend_dkv", dkvWords, of, cuda.Grid{X: of.tiles(s.Keys), Y: s.KVHeads, Z: s.Batch}, 4, 2,
		o.words(), view(dk), view(dv), view(dout), at, view(q), view(k), view(v))
}

// Store implements device.Attention.
func (d *Device) Store(keys, values device.Heads, first int, k, v device.Buffer, seqs, tokens, headDim int) {
	heads := keys.Seq / keys.Head
	n := seqs * tokens * heads * headDim
	if n == 0 {
		return
	}
	if keys.Format().Scaled() {
		d.storeInts(keys, values, first, k, v, seqs, tokens, headDim)
		return
	}
	grid := cuda.Grid{X: min((n+255)/256, 32*d.gpu.Units), Threads: 256}
	d.attentionKernel("store_kv", storeWords, widths{headDim, headDim}, grid, 0, 0, view(keys), view(values), view(device.Heads{Buffer: k}), view(device.Heads{Buffer: v}),
		[]uint64{uint64(seqs * tokens), uint64(tokens), uint64(heads), uint64(first), addr(d.replay.first(first))})
}
