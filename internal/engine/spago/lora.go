package spago

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// adapter is a low-rank change of a frozen weight W [out, in] (Hu et al. 2021, arXiv 2106.09685): products read W + scale·B·A.
type adapter struct {
	a, b  *nn.Param // [rank, in], [out, rank]
	rank  int
	scale float32
}

// newAdapter returns a change of a weight that is zero at first: A is uniform within ±1/√in, drawn from seed and the weight's name, and
// B is zero.
func newAdapter(d device.Device, how recipe.LoRA, seed uint64, w configs.Param) *adapter {
	rows, cols := w.Shape[0], w.Shape[1]
	name := fnv.New64a()
	name.Write([]byte(w.Name))
	random, bound := rand.New(rand.NewPCG(seed, name.Sum64())), 1/math.Sqrt(float64(cols))
	a := make([]float32, how.Rank*cols)
	for i := range a {
		a[i] = float32((2*random.Float64() - 1) * bound)
	}
	part := func(x []float32, rows, cols int) *nn.Param {
		v := newValue(d, d.Load(device.F32, x, rows, cols, false), rows, cols)
		v.addCompute()
		return &nn.Param{Matrix: v}
	}
	return &adapter{part(a, how.Rank, cols), part(make([]float32, rows*how.Rank), rows, how.Rank), how.Rank, float32(how.Scale())}
}

// parts returns slots of the adapter of a weight.
func (l *adapter) parts(name string) []slot {
	slots := []slot{{name: name + ".lora_a", param: l.a, part: true}, {name: name + ".lora_b", param: l.b, part: true}}
	for i := range slots {
		slots[i].shape = valueOf(slots[i].param).Shape()
	}
	return slots
}

// merged returns base + scale·B·A on the host, given the numbers of A and B.
func (l *adapter) merged(base *value, a, b device.Buffer) []float32 {
	d := base.device
	whole := d.New(device.F32, base.Size())
	defer d.Free(whole)
	base.whole32(whole)
	l.merge(d, whole, base.rows, base.cols, a, b)
	return append([]float32(nil), d.Host(whole)...)
}

// merge adds scale·B·A to whole [rows, cols].
func (l *adapter) merge(d device.Device, whole device.Buffer, rows, cols int, a, b device.Buffer) {
	d.Gemm(false, false, rows, cols, l.rank, l.scale, b, l.rank, a, cols, 1, whole, cols)
}

// linearAdapted is Linear for a weight with a change: y = x·Wᵀ + b + scale·(x·Aᵀ)·Bᵀ. With h = x·Aᵀ and dh = scale·gy·B the gradients
// are dB = scale·gyᵀ·h, dA = dhᵀ·x, dx = gy·W + dh·A. The backward pass computes h again, which is small.
func (e *Engine) linearAdapted(x mat.Tensor, w ops.Linear[mat.Tensor]) mat.Tensor {
	xv, wv := valueOf(x).ready(), use(valueOf(w.W))
	l := wv.adapter
	av, bv := use(valueOf(l.a)), use(valueOf(l.b))
	n, in, out, rank := xv.rows, xv.cols, wv.rows, l.rank
	y := e.result(n, out)
	project := func(h device.Buffer) {
		e.device.Gemm(false, true, n, rank, in, 1, xv.data, in, av.operand(), in, 0, h, rank)
	}
	y.product = func() {
		e.device.Gemm(false, true, n, out, in, 1, xv.data, in, wv.operand(), in, 0, y.data, out)
		h := e.activations(n * rank)
		project(h)
		e.device.Gemm(false, true, n, out, rank, l.scale, h, rank, bv.operand(), rank, 1, y.data, out)
		e.free(h)
		if w.HasBias {
			e.device.AddRows(y.data, valueOf(w.Bias).data, n, out)
		}
	}
	y.hold(wv, av, bv)
	operands := []mat.Tensor{x, l.a, l.b}
	if w.HasBias {
		y.hold(use(valueOf(w.Bias)))
		operands = append(operands, w.Bias)
	}
	return e.record(y, func(gy device.Buffer) {
		use(wv)
		use(av)
		use(bv)
		h := e.activations(n * rank)
		if db, beta, ok := e.into(l.b); ok {
			project(h)
			e.device.Gemm(true, false, out, rank, n, l.scale, gy, out, h, rank, beta, db, rank)
		}
		e.device.Gemm(false, false, n, rank, out, l.scale, gy, out, bv.operand(), rank, 0, h, rank) // dh
		if da, beta, ok := e.into(l.a); ok {
			e.device.Gemm(true, false, rank, in, n, 1, h, rank, xv.data, in, beta, da, in)
		}
		if dx, beta, ok := e.into(x); ok {
			e.device.Gemm(false, false, n, in, out, 1, gy, out, wv.operand(), in, beta, dx, in)
			e.device.Gemm(false, false, n, in, rank, 1, h, rank, av.operand(), in, 1, dx, in)
		}
		if w.HasBias {
			if db, ok := e.zeroed(w.Bias); ok {
				e.device.SumRows(db, gy, n, out)
			}
		}
		e.free(h)
	}, operands...)
}

// checkAdapted returns an error if the model lacks one of the projections that a low-rank change was wanted for.
func checkAdapted(how recipe.LoRA, params []configs.Param) error {
	roles, err := how.Roles()
	if err != nil {
		return err
	}
	for _, role := range roles {
		found := false
		for _, p := range params {
			found = found || p.Role == role && p.Hidden()
		}
		if !found {
			return fmt.Errorf("lora.projections names %s, which the model does not have: leave it out", role)
		}
	}
	return nil
}
