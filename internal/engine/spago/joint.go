package spago

import (
	"slices"
	"strings"

	"github.com/nlpodyssey/spago/mat"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// joint is a matrix [rows, cols] that consists of the weights of linear layers with the same input, q, k and v or gate and up, so
// that one product reads them all. Their biases form another joint, with one column.
type joint struct {
	device              device.Device
	data, compute, grad device.Buffer // as those of a value
	rows, cols          int
	members             []string // names of the weights, in order
	parts               []*value // that have been placed so far
}

// together are the roles of layers with the same input. Where several sets hold, the last does.
var together = [][]configs.Role{
	{configs.Q, configs.K, configs.V},
	{configs.Gate, configs.Up},
	{configs.QA, configs.KRope, configs.LatentKV},
	{configs.QNope, configs.QRope},
	{configs.QNope, configs.QRope, configs.KRope, configs.LatentKV},
	{configs.KeyUp, configs.ValueUp},
}

// joints returns the joints of a model by the names of their members.
func joints(d device.Device, params []configs.Param) map[string]*joint {
	byName, all := map[string]configs.Param{}, map[string]*joint{}
	for _, p := range params {
		byName[p.Name] = p
	}
	for _, p := range params {
		for _, roles := range together {
			if p.Role != roles[0] {
				continue
			}
			j, prefix := &joint{device: d}, strings.TrimSuffix(p.Name, configs.ParamName(p.Role, -1, p.Bias))
			for _, role := range roles {
				member, ok := byName[prefix+configs.ParamName(role, -1, p.Bias)]
				if !ok || !slices.Equal(member.Shape[1:], p.Shape[1:]) {
					break
				}
				j.members = append(j.members, member.Name)
				j.rows += member.Shape[0]
				j.cols = member.Size() / member.Shape[0]
			}
			if len(j.members) == len(roles) {
				for _, name := range j.members {
					all[name] = j
				}
			}
		}
	}
	return all
}

// place returns the value of a member [rows, cols], stored in the joint. Members must be placed in their order.
func (j *joint) place(rows int, data []float32) *value {
	lo := 0
	for _, p := range j.parts {
		lo += p.Size()
	}
	hi := lo + rows*j.cols
	f := j.device.Activations()
	if copied := f != device.F32 && j.cols > 1; copied { // products read the copies, and only these must be adjacent
		if j.compute.None() {
			j.compute = j.device.New(f, j.rows*j.cols)
		}
	} else if j.data.None() {
		j.data = j.device.New(device.F32, j.rows*j.cols)
	}
	var v *value
	if j.compute.None() {
		v = newValue(j.device, j.data.Slice(lo, hi), rows, j.cols)
		j.device.Write(v.data, data)
	} else {
		v = newValue(j.device, j.device.Load(device.F32, data, rows, j.cols, false), rows, j.cols)
		v.compute = j.compute.Slice(lo, hi)
		v.updateCompute()
	}
	v.joint = j
	j.parts = append(j.parts, v)
	return v
}

// allocate gives every member a gradient, adjacent to the others.
func (j *joint) allocate(f device.Format) {
	j.grad = j.device.New(f, j.rows*j.cols)
	lo := 0
	for _, p := range j.parts {
		p.grad = j.grad.Slice(lo, lo+p.Size())
		lo += p.Size()
	}
}

// written returns the buffer for the members' gradients, and 0 if it must be overwritten or 1 if it must be added to.
func (j *joint) written() (dst device.Buffer, beta float32) {
	var empty []device.Buffer
	for _, p := range j.parts {
		if grad, b := p.written(); b == 0 {
			empty = append(empty, grad)
		}
	}
	if len(empty) == len(j.parts) {
		return j.grad, 0
	}
	for _, grad := range empty { // the others' weights were also used by themselves
		j.device.Clear(grad)
	}
	return j.grad, 1
}

// operand returns what a product reads.
func (j *joint) operand() device.Buffer {
	if j.compute.None() {
		return j.data
	}
	return j.compute
}

// jointOf returns the joint that consists of these weights; nil if there is none, if only some of them are frozen, or if a change of one
// is trained.
func jointOf(weights []mat.Tensor) *joint {
	j := valueOf(weights[0]).joint
	if j == nil || len(j.parts) != len(weights) {
		return nil
	}
	for i, w := range weights {
		if v := valueOf(w); v != j.parts[i] || v.frozen != j.parts[0].frozen || v.adapter != nil {
			return nil
		}
	}
	return j
}

// Linears implements ops.GroupedLinear. If the layers' weights form a joint, there is one product, and the results are its columns.
// Each of these can be used once.
func (e *Engine) Linears(x mat.Tensor, ws []ops.Linear[mat.Tensor]) []mat.Tensor {
	var weights, biases []mat.Tensor
	for _, w := range ws {
		weights = append(weights, w.W)
		if w.HasBias {
			biases = append(biases, w.Bias)
		}
	}
	ys, j := make([]mat.Tensor, len(ws)), jointOf(weights)
	if j == nil || e.observe != nil || len(biases) > 0 && (len(biases) < len(ws) || jointOf(biases) == nil) {
		for i, w := range ws {
			ys[i] = e.Linear(x, w)
		}
		return ys
	}
	all := e.linearJoint(x, j, weights, biases)
	whole, first := valueOf(all), 0
	for i, p := range j.parts {
		ys[i] = e.part(all, first, p.rows)
		whole.parts = append(whole.parts, valueOf(ys[i]))
		first += p.rows
	}
	return ys
}

// linearJoint is Linear for a joint of weights, and one of biases if there are any.
func (e *Engine) linearJoint(x mat.Tensor, j *joint, weights, biases []mat.Tensor) mat.Tensor {
	x = e.dense(x)
	xv := valueOf(x).ready()
	use(j.parts[0])
	n, in, out := xv.rows, xv.cols, j.rows
	y := e.result(n, out)
	e.device.Gemm(false, true, n, out, in, 1, xv.data, in, j.operand(), in, 0, y.data, out)
	if len(biases) > 0 {
		use(valueOf(biases[0]))
		e.device.AddRows(y.data, jointOf(biases).data, n, out)
	}
	return e.record(y, func(gy device.Buffer) {
		if dx, beta, ok := e.into(x); ok {
			use(j.parts[0])
			e.device.Gemm(false, false, n, in, out, 1, gy, out, j.operand(), in, beta, dx, in)
		}
		if !j.parts[0].frozen {
			dw, beta := j.written()
			e.device.Gemm(true, false, out, in, n, 1, gy, out, xv.data, in, beta, dw, in)
		}
		if len(biases) > 0 && !valueOf(biases[0]).frozen {
			db, beta := jointOf(biases).written()
			if beta == 0 {
				e.device.Clear(db)
			}
			e.device.SumRows(db, gy, n, out)
		}
	}, append(append([]mat.Tensor{x}, weights...), biases...)...)
}

// part records columns of x, which is a product or columns of one. first is counted from the first column of the product. The
// columns' gradient is written straight into the product's.
func (e *Engine) part(x mat.Tensor, first, cols int) mat.Tensor {
	whole := valueOf(x)
	if whole.whole != nil {
		whole = whole.whole
	}
	return e.record(e.columns(whole, first, cols), func(device.Buffer) { e.into(x) }, x)
}

// columns returns columns of a product's result as a value that shares its memory.
func (e *Engine) columns(whole *value, first, cols int) *value {
	v := newValue(e.device, whole.data.From(first), whole.rows, cols)
	v.ld, v.whole, v.first = whole.cols, whole, first
	return v
}

// dense returns x, or if it is columns of another value, a copy without gaps.
func (e *Engine) dense(x mat.Tensor) mat.Tensor {
	xv := valueOf(x)
	if xv.whole == nil {
		return x
	}
	y := e.result(xv.rows, xv.cols)
	e.device.CopyRows(y.all(y.data), xv.all(xv.data), xv.rows, xv.cols)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Rows) { e.device.CopyRows(dx, y.all(gy), xv.rows, xv.cols) })
	}, x)
}
