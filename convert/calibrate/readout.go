package calibrate

import (
	"cmp"
	"context"
	"errors"
	"math"

	"gqa/configs"
	"gqa/internal/cpu/blas"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
	"gqa/internal/ops"
)

// Weights holds the weights of a layer that a merge changed, keyed by the forward pass's names, with one KV head per
// group.
type Weights map[string][]float32

// ridge keeps the weights in directions that hardly occur in the data close to what they were; it is a fraction of the
// data's mean size.
const ridge = 1e-4

// Readout fits a layer's o, and its bias, to the output of the original's attention, given the output of the merged
// heads. This is linear least squares, so it corrects what queries and keys lost as far as o can. It returns the
// relative squared error before and after.
func (w *Walk) Readout(ctx context.Context, layer int, changed Weights) (before, after float64, err error) {
	n := w.attach(layer, changed)
	o, bias := changed[configs.ParamName(w.at.o, layer, false)], changed[configs.ParamName(w.at.o, layer, true)]
	f := newLeastSquares(w.engine.Device(), len(o)/n.shapes[configs.ParamName(w.at.o, layer, false)][0], o, bias)
	err = w.each(ctx, input, func(i int, _ ops.Batch, x device.Buffer) error {
		y, err := w.states.get(target, i)
		if err != nil {
			return err
		}
		if _, err := w.attend(layer, i, x); err != nil {
			return err
		}
		f.add(w.self.mixed, w.self.written, y)
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	f.gather()
	if before, after, err = f.solve(ctx, o, bias); err != nil {
		return 0, 0, err
	}
	if !finite(before+after) || !blas.Finite(o) || !blas.Finite(bias) {
		return 0, 0, errors.New("readout: least squares for the output weights has no finite solution: activations are too large")
	}
	return before, after, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// attach gives the student a layer: the original's weights, except those changed.
func (w *Walk) attach(layer int, changed Weights) named {
	n := newNamed()
	for _, p := range w.converted {
		n.shapes[p.Name] = p.Shape
		if values, ok := w.weights.values[p.Name]; ok {
			n.values[p.Name] = values
		}
	}
	for name, values := range changed {
		n.values[name] = values
	}
	w.unload(&w.learnt)
	constant := n.constant(w.engine, &w.learnt)
	w.student.SetLayer(layer, func(name string) (spago.Tensor, bool) {
		t, ok := constant(name)
		if name == configs.ParamName(w.at.o, layer, false) {
			w.self.o = t
		}
		return t, ok
	})
	return n
}

// leastSquares fits a change of y = W·z + b that minimises the distance of y to the targets, using sums over rows of
// z̃z̃ᵀ and of (target - y)z̃ᵀ, where z̃ is z extended by a one for the bias.
type leastSquares struct {
	in, out, wide int
	square, cross []float32 // [wide, wide], [out, wide], once gathered
	lost, wanted  float64   // Σ|target - y|², Σ|target|², once gathered

	device        device.Device
	rows          int
	zz, rz        device.Buffer // Σzzᵀ [in, in], Σ(target - y)zᵀ [out, in]
	z, r          device.Buffer // Σz [in], Σ(target - y) [out]
	losts, wishes []device.Number
}

func newLeastSquares(d device.Device, in int, w, bias []float32) *leastSquares {
	f := &leastSquares{in: in, out: len(w) / in, wide: in, device: d}
	if bias != nil {
		f.wide++
	}
	f.zz, f.rz, f.z, f.r = d.New(device.F32, in*in), d.New(device.F32, f.out*in), d.New(device.F32, in), d.New(device.F32, f.out)
	for _, b := range []device.Buffer{f.zz, f.rz, f.z, f.r} {
		d.Clear(b)
	}
	return f
}

// add adds rows of z [n, in], y and target [n, out].
func (f *leastSquares) add(z, y, target device.Buffer) {
	d, n := f.device, z.Len()/f.in
	rest := d.New(device.F32, target.Len())
	defer d.Free(rest)
	d.Copy(rest, target)
	f.wishes = append(f.wishes, d.Sum(device.Term{X: rest, Weight: 1, Squares: true}))
	d.Axpy(-1, y, rest)
	f.losts = append(f.losts, d.Sum(device.Term{X: rest, Weight: 1, Squares: true}))
	d.Gemm(true, false, f.in, f.in, n, 1, z, f.in, z, f.in, 1, f.zz, f.in)
	d.Gemm(true, false, f.out, f.in, n, 1, rest, f.out, z, f.in, 1, f.rz, f.in)
	if f.wide > f.in {
		d.SumRows(f.z, z, n, f.in)
		d.SumRows(f.r, rest, n, f.out)
	}
	f.rows += n
}

// gather copies the sums to the host, and frees their memory elsewhere.
func (f *leastSquares) gather() {
	f.square, f.cross = make([]float32, f.wide*f.wide), make([]float32, f.out*f.wide)
	widen := func(dst []float32, b device.Buffer) {
		for i, x := range f.device.Host(b) {
			dst[i/f.in*f.wide+i%f.in] = x
		}
	}
	widen(f.square, f.zz)
	widen(f.cross, f.rz)
	if f.wide > f.in {
		for i, x := range f.device.Host(f.z) {
			f.square[f.in*f.wide+i], f.square[i*f.wide+f.in] = x, x
		}
		for i, x := range f.device.Host(f.r) {
			f.cross[i*f.wide+f.in] = x
		}
		f.square[f.wide*f.wide-1] = float32(f.rows)
	}
	for i, lost := range f.losts {
		f.lost += lost()
		f.wanted += f.wishes[i]()
	}
	for _, b := range []device.Buffer{f.zz, f.rz, f.z, f.r} {
		f.device.Free(b)
	}
}

// solve changes W and bias, and returns the relative squared errors before and after. If there is no solution, nothing is changed.
func (f *leastSquares) solve(ctx context.Context, w, bias []float32) (before, after float64, err error) {
	damp := f.damping()
	if lost := f.lost + f.wanted + damp; !finite(lost) {
		return lost, lost, nil
	}
	if f.wanted == 0 {
		return 0, 0, ctx.Err()
	}
	change := f.device.Solve(f.square, f.cross, f.wide, damp)
	if err := cmp.Or(ctx.Err(), f.device.Err()); change == nil || err != nil {
		return 0, 0, err
	}
	gained := 0.0
	for i := range f.out {
		gained += f.change(i, change[i*f.wide:(i+1)*f.wide], damp, w, bias)
	}
	return f.lost / f.wanted, (f.lost - gained) / f.wanted, nil
}

// damping returns the ridge that is added to the diagonal of the sum of squares.
func (f *leastSquares) damping() float64 {
	trace := 0.0
	for i := range f.wide {
		trace += float64(f.square[i*f.wide+i])
	}
	return ridge * trace / float64(f.wide)
}

// change adds the solution Δ of Δ·(S + damp) = c to row i of W and bias, and returns the reduction in squared error:
// 2·Δ·c - Δ·S·Δ.
func (f *leastSquares) change(i int, delta []float64, damp float64, w, bias []float32) (gained float64) {
	c := f.cross[i*f.wide : (i+1)*f.wide]
	for j, d := range delta {
		if gained += d * (float64(c[j]) + damp*d); j < f.in {
			w[i*f.in+j] += float32(d)
		} else {
			bias[i] += float32(d)
		}
	}
	return gained
}
