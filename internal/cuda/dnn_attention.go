//go:build cuda && linux

package cuda

import (
	"fmt"
	"math"
	"unsafe"
)

// HeadView locates rows of heads in bf16: row t of head h of sequence s begins at number s·Seq + h·Head + t·Row.
type HeadView struct {
	At             uintptr
	Seq, Head, Row int64
}

// Attention describes attention as cuDNN computes it: bf16 input, f32 sums, with or without a causal mask. Query head h
// reads KV head h / (Heads/KVHeads).
type Attention struct {
	Batch, Queries, Keys, Heads, KVHeads, HeadDim int64
	Causal                                        bool // query i sees only the keys up to i
	Scale                                         float32
}

// SupportsAttention returns nil if cuDNN is available and supports such attention.
func (g *GPU) SupportsAttention(a Attention) error {
	if a.HeadDim%8 != 0 || a.HeadDim > 128 || a.Causal && a.Queries != a.Keys || a.Queries < 64 || a.Keys < 64 {
		return fmt.Errorf("attention of %d queries, %d keys and heads of %d is not given to cuDNN", a.Queries, a.Keys, a.HeadDim)
	}
	var err error
	g.Wait(func() error { err = g.startDNN(); return nil })
	return err
}

// attentionKey identifies the attentions that share a plan: the shape and the strides.
type attentionKey struct {
	Attention
	views    [8]HeadView // without addresses
	backward bool
}

// attentionPlan is a plan with the numbers of its tensors, in the order of its operands.
type attentionPlan struct {
	dnnPlan
	uids                  []int64
	scale, infinity, unit int64 // numbers of the values; -1 if there is none
}

func shapes(views []HeadView) (s [8]HeadView) {
	for i, v := range views {
		v.At = 0
		s[i] = v
	}
	return s
}

// rows adds a tensor of heads' rows [batch, heads, rows, dim].
func (g *graph) rows(v HeadView, batch, heads, rows, dim int64) tensor {
	return g.tensor(dnnBF16, [4]int64{batch, heads, rows, dim}, [4]int64{v.Seq, v.Head, v.Row, 1}, inMemory)
}

// columns adds the transpose of rows.
func (g *graph) columns(v HeadView, batch, heads, rows, dim int64) tensor {
	return g.tensor(dnnBF16, [4]int64{batch, heads, dim, rows}, [4]int64{v.Seq, v.Head, 1, v.Row}, inMemory)
}

// statistic adds a tensor with one f32 number per row of each head.
func (g *graph) statistic(a Attention, storage int) tensor {
	return g.tensor(dnnFloat, [4]int64{a.Batch, a.Heads, a.Queries, 1}, [4]int64{a.Heads * a.Queries, a.Queries, 1, 1}, storage)
}

// masked returns scores with -infinity where a key comes after its query.
func (g *graph) masked(a Attention, scores tensor, infinity *tensor) tensor {
	if !a.Causal {
		return scores
	}
	*infinity = g.number()
	row := g.point(pointIndex, scores, nil, nil, g.between(dnnInt32, scores.dims), 2, dnnFloat)
	col := g.point(pointIndex, scores, nil, nil, g.between(dnnInt32, scores.dims), 3, dnnFloat)
	seen := g.point(pointNotLT, row, &col, nil, g.between(dnnBool, scores.dims), -1, dnnBool)
	return g.point(pointSelect, scores, infinity, &seen, g.between(dnnFloat, scores.dims), -1, dnnFloat)
}

// forwardPlan builds attention as a graph: softmax(mask(scale·q·kᵀ))·v, and the logarithms of the sums of exponentials.
func (s *dnnState) forwardPlan(a Attention, q, k, v, out HeadView) (*attentionPlan, error) {
	g := new(graph)
	V, K := g.rows(v, a.Batch, a.KVHeads, a.Keys, a.HeadDim), g.columns(k, a.Batch, a.KVHeads, a.Keys, a.HeadDim)
	Q, scale := g.rows(q, a.Batch, a.Heads, a.Queries, a.HeadDim), g.number()
	lse, O := g.statistic(a, inMemory), g.rows(out, a.Batch, a.Heads, a.Queries, a.HeadDim)
	square := [4]int64{a.Batch, a.Heads, a.Queries, a.Keys}
	infinity := tensor{uid: -1}
	scores := g.multiply(Q, K, g.between(dnnFloat, square))
	scores = g.pointwise(pointMul, scores, &scale, g.between(dnnFloat, square))
	scores = g.masked(a, scores, &infinity)
	top := g.reduce(reduceMax, scores, g.statistic(a, virtual))
	less := g.pointwise(pointSub, scores, &top, g.between(dnnFloat, square))
	e := g.pointwise(pointExp, less, nil, g.between(dnnFloat, square))
	sum := g.reduce(reduceAdd, e, g.statistic(a, virtual))
	logs := g.pointwise(pointLog, sum, nil, g.statistic(a, virtual))
	g.pointwise(pointAdd, top, &logs, lse)
	p := g.pointwise(pointDiv, e, &sum, g.between(dnnBF16, square))
	g.multiply(p, V, O)
	plan, err := g.build(s.handle)
	return &attentionPlan{plan, []int64{Q.uid, K.uid, V.uid, O.uid, lse.uid}, scale.uid, infinity.uid, -1}, err
}

// backwardPlan builds the gradient of attention as a graph; probabilities are recomputed from the scores and lse.
func (s *dnnState) backwardPlan(a Attention, q, k, v, out, dout, dq, dk, dv HeadView) (*attentionPlan, error) {
	g := new(graph)
	lse := g.statistic(a, inMemory)
	dO, O := g.rows(dout, a.Batch, a.Heads, a.Queries, a.HeadDim), g.rows(out, a.Batch, a.Heads, a.Queries, a.HeadDim)
	V, K := g.columns(v, a.Batch, a.KVHeads, a.Keys, a.HeadDim), g.columns(k, a.Batch, a.KVHeads, a.Keys, a.HeadDim)
	Q, scale, unit := g.rows(q, a.Batch, a.Heads, a.Queries, a.HeadDim), g.number(), g.number()
	dV, dK := g.rows(dv, a.Batch, a.KVHeads, a.Keys, a.HeadDim), g.rows(dk, a.Batch, a.KVHeads, a.Keys, a.HeadDim)
	dQ := g.rows(dq, a.Batch, a.Heads, a.Queries, a.HeadDim)
	full, square := [4]int64{a.Batch, a.Heads, a.Queries, a.HeadDim}, [4]int64{a.Batch, a.Heads, a.Queries, a.Keys}
	perHead := [4]int64{a.Batch, a.Heads, a.Keys, a.HeadDim}
	transposed := func(x tensor) tensor {
		dims := [4]int64{a.Batch, a.Heads, a.Keys, a.Queries}
		return g.reshape(x, g.tensor(dnnBF16, dims, [4]int64{a.Heads * a.Queries * a.Keys, a.Queries * a.Keys, 1, a.Keys}, virtual))
	}
	infinity := tensor{uid: -1}

	product := g.pointwise(pointMul, dO, &O, g.between(dnnFloat, full))
	delta := g.reduce(reduceAdd, product, g.statistic(a, virtual))
	delta = g.pointwise(pointMul, delta, &unit, g.statistic(a, inMemory))
	scores := g.multiply(Q, K, g.between(dnnFloat, square))
	scores = g.pointwise(pointMul, scores, &scale, g.between(dnnFloat, square))
	scores = g.pointwise(pointSub, scores, &lse, g.between(dnnFloat, square))
	scores = g.masked(a, scores, &infinity)
	p := g.pointwise(pointExp, scores, nil, g.between(dnnFloat, square))
	g.reduce(reduceAdd, g.multiply(transposed(p), dO, g.between(dnnBF16, perHead)), dV)
	dp := g.multiply(dO, V, g.between(dnnFloat, square))
	dp = g.pointwise(pointSub, dp, &delta, g.between(dnnFloat, square))
	ds := g.pointwise(pointMul, dp, &p, g.between(dnnFloat, square))
	ds = g.pointwise(pointMul, ds, &scale, g.between(dnnFloat, square))
	g.reduce(reduceAdd, g.multiply(transposed(ds), Q, g.between(dnnBF16, perHead)), dK)
	kRows := g.reshape(K, g.tensor(dnnFloat, [4]int64{a.Batch, a.KVHeads, a.Keys, a.HeadDim}, [4]int64{k.Seq, k.Head, k.Row, 1}, virtual))
	sum := g.multiply(ds, kRows, g.tensor(dnnFloat, full, [4]int64{a.Heads * a.Queries * a.HeadDim, a.Queries * a.HeadDim, a.HeadDim, 1}, inMemory))
	g.pointwise(pointCopy, sum, nil, dQ)
	plan, err := g.build(s.handle)
	return &attentionPlan{plan, []int64{Q.uid, K.uid, V.uid, O.uid, lse.uid, dO.uid, dQ.uid, dK.uid, dV.uid, delta.uid, sum.uid}, scale.uid, infinity.uid, unit.uid}, err
}

// run executes a plan on the operands' memory.
func (s *dnnState) run(p *attentionPlan, a Attention, workspace uintptr, at ...uintptr) error {
	s.numbers = [3]float32{a.Scale, float32(math.Inf(-1)), 1}
	uids, pointers := append([]int64(nil), p.uids...), at
	for i, uid := range []int64{p.scale, p.infinity, p.unit} {
		if uid >= 0 {
			uids, pointers = append(uids, uid), append(pointers, uintptr(unsafe.Pointer(&s.numbers[i])))
		}
	}
	return p.execute(s.handle, uids, pointers, workspace)
}

// Attend computes attention. lse [Batch, Heads, Queries] is in f32. SupportsAttention must have returned nil.
func (g *GPU) Attend(a Attention, out HeadView, lse uintptr, q, k, v HeadView) {
	g.Do(func() error {
		s := g.dnn
		p, err := s.plan(attentionKey{a, shapes([]HeadView{q, k, v, out}), false}, func() (*attentionPlan, error) { return s.forwardPlan(a, q, k, v, out) })
		if err == nil {
			err = g.withWorkspace(p.workspace, func(w uintptr) error { return s.run(p, a, w, q.At, k.At, v.At, out.At, lse) })
		}
		return describe(err, "attention", a)
	})
}

// AttendBackward computes the gradients of attention. delta is workspace for [Batch, Heads, Queries] numbers in f32, and
// sum for [Batch, Heads, Queries, HeadDim].
func (g *GPU) AttendBackward(a Attention, dq, dk, dv, dout, out HeadView, lse, delta, sum uintptr, q, k, v HeadView) {
	g.Do(func() error {
		s := g.dnn
		key := attentionKey{a, shapes([]HeadView{q, k, v, out, dout, dq, dk, dv}), true}
		p, err := s.plan(key, func() (*attentionPlan, error) { return s.backwardPlan(a, q, k, v, out, dout, dq, dk, dv) })
		if err == nil {
			err = g.withWorkspace(p.workspace, func(w uintptr) error {
				return s.run(p, a, w, q.At, k.At, v.At, out.At, lse, dout.At, dq.At, dk.At, dv.At, delta, sum)
			})
		}
		return describe(err, "gradient of attention", a)
	})
}

func describe(err error, what string, a Attention) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s, batch %d, %d queries, %d keys, %d heads of %d, %d KV heads: %w", what, a.Batch, a.Queries, a.Keys, a.Heads, a.HeadDim, a.KVHeads, err)
}

func (s *dnnState) plan(key attentionKey, build func() (*attentionPlan, error)) (*attentionPlan, error) {
	key.Scale = 0 // it is passed by value
	if p := s.plans[key]; p != nil {
		return p, nil
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	s.plans[key] = p
	return p, nil
}

// withWorkspace runs f with a workspace that grows to the largest size requested.
func (g *GPU) withWorkspace(bytes int64, f func(at uintptr) error) error {
	if bytes > g.workspaceBytes {
		if g.workspace != 0 {
			if err := driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize"); err != nil {
				return err
			}
			cuMemFree(g.workspace)
			g.workspace, g.workspaceBytes = 0, 0
		}
		if err := driverError(cuMemAlloc(&g.workspace, uint64(bytes)), fmt.Sprintf("cuMemAlloc of %d bytes for cuDNN", bytes)); err != nil {
			return err
		}
		g.workspaceBytes = bytes
	}
	return f(g.workspace)
}
