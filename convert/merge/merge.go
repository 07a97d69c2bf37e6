package merge

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"
)

// Method is a way to replace the K (or V) heads of a group by one.
type Method string

// The methods: those of Figure 4 of Ainslie et al. 2023 (arXiv 2305.13245), and two that use the maps that leave
// attention unchanged.
const (
	Mean       Method = "mean"       // their mean, as recommended by the paper
	First      Method = "first"      // the group's first head
	Random     Method = "random"     // a new head, normally distributed like the tensor; not supported by Merge
	Align      Method = "align"      // the mean of the aligned heads, scaled to their size
	Calibrated Method = "calibrated" // the head that keeps most of what queries and the output read
)

// Methods lists the methods.
var Methods = []string{string(Mean), string(First), string(Random), string(Align), string(Calibrated)}

// Aligns reports whether the method aligns the heads of a group. This changes q and o too: Merge computes all of a
// layer's attention together. The other methods only replace keys and values.
func (m Method) Aligns() bool { return m == Align || m == Calibrated }

// Options configure a merge.
type Options struct {
	Groups  int // number of KV heads of the result; must divide the current number
	Method  Method
	Similar bool   // choose which heads share; otherwise adjacent heads do
	Seed    uint64 // random seed for a search that cannot be exhaustive
	// Parts are the KV heads of each group, if already known: the result of a Search over several modules.
	Parts [][]int
}

// Inputs are the moments of the projections' inputs; a nil Moment is the identity.
type Inputs struct {
	Query, KeyValue *Moment // equal, except in cross-attention
}

// Group is the result for one group.
type Group struct {
	Members []int // the KV heads that share, as numbered before
	K, V    Fit
}

// Fit measures how well a shared head approximates its members.
type Fit struct {
	Cosine float64 // between the members and their approximations, over their inputs
	Energy float64 // fraction of the members' second moment, in their readers' metric, that the shared head can hold
	Scale  float64 // factor that keeps the members' size: mean over the dims
	Error  float64 // relative squared error in the readers' metric
}

// Merge returns a with o.Groups KV heads, and the result for each group, without changing a. Query heads are reordered
// by group: those of the first group's members come first. It is an error if the result is not finite.
func Merge(ctx context.Context, a *Attention, in Inputs, o Options) (*Attention, []Group, error) {
	if solvers[o.Method] == nil {
		return nil, nil, fmt.Errorf("method %q does not merge heads", o.Method)
	}
	parts, k, v, err := a.grouped(ctx, in, o)
	if err != nil {
		return nil, nil, err
	}
	keys, values := k.merge(o.Method, parts), v.merge(o.Method, parts)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	merged := a.build(parts, keys, values)
	if merged.O.Bias != nil {
		a.foldConstant(merged, in.KeyValue)
	}
	groups, err := reportOf(parts, keys, values)
	if err != nil {
		return nil, nil, err
	}
	if !merged.finite() {
		return nil, nil, errors.New("the shared heads, or what reads them, are not finite numbers: weights are too large or too small")
	}
	return merged, groups, nil
}

// reportOf returns the result for each group.
func reportOf(parts [][]int, keys, values []maps) ([]Group, error) {
	groups := make([]Group, len(parts))
	for g, members := range parts {
		groups[g] = Group{Members: members, K: keys[g].fit, V: values[g].fit}
		if !groups[g].K.finite() || !groups[g].V.finite() {
			return nil, errors.New("the fit of the shared heads is not a finite number: weights are too large or too small")
		}
	}
	return groups, nil
}

// grouped determines which heads share, and the statistics of keys and values.
func (a *Attention) grouped(ctx context.Context, in Inputs, o Options) (parts [][]int, k, v *projection, err error) {
	if o.Parts == nil && o.Similar {
		search := Search{Method: o.Method, Groups: o.Groups, Seed: o.Seed}
		if k, v, err = search.add(ctx, a, in); err != nil {
			return nil, nil, nil, err
		}
		return search.Parts(), k, v, nil
	}
	if parts = o.Parts; parts == nil {
		parts = contiguous(a.KVHeads, o.Groups)
	}
	k, v, err = a.projections(ctx, in, parts)
	return parts, k, v, err
}

func (f Fit) finite() bool {
	sum := f.Cosine + f.Energy + f.Scale + f.Error
	return !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

// finite reports whether all weights and biases are finite.
func (a *Attention) finite() bool {
	for _, x := range [][]float32{
		a.Q.W, a.Q.Bias, a.K.W, a.K.Bias, a.V.W, a.V.Bias, a.O.W, a.O.Bias, a.QNorm.W, a.QNorm.Bias, a.KNorm.W, a.KNorm.Bias,
	} {
		if !blas.Finite(x) {
			return false
		}
	}
	return true
}

// maps is one group's solution over all dims of a head: shared = Σ in[m]·member m, member m ≈ out[m]·shared.
type maps struct {
	in, out [][]float32 // by member: [headDim, headDim]
	fit     Fit
}

// merge solves every block of every group.
func (p *projection) merge(m Method, parts [][]int) []maps {
	if m == Calibrated {
		p.findRoots()
	}
	all := make([]maps, len(parts))
	fits, scales := make([][]fit, len(parts)), make([][]float64, len(parts))
	for g, members := range parts {
		all[g] = newMaps(len(members), p.headDim)
		fits[g], scales[g] = make([]fit, len(p.blocks)), make([]float64, len(p.blocks))
	}
	pool.For(len(parts)*len(p.blocks), 1, func(lo, hi int) {
		for i := lo; i < hi && !p.stopped(); i++ {
			g, b := i/len(p.blocks), i%len(p.blocks)
			sol := p.solve(m, p.blocks[b], parts[g])
			all[g].put(p.blocks[b], p.headDim, sol)
			fits[g][b], scales[g][b] = p.measure(p.blocks[b], parts[g], sol), sol.scale
		}
	})
	for g := range all {
		all[g].fit = p.summary(fits[g], scales[g])
	}
	return all
}

// newMaps returns zero maps for members.
func newMaps(members, headDim int) (m maps) {
	for range members {
		m.in = append(m.in, make([]float32, headDim*headDim))
		m.out = append(m.out, make([]float32, headDim*headDim))
	}
	return m
}

// put copies a block's maps into those of the head.
func (m *maps) put(b block, headDim int, sol solution) {
	for i := range sol.in {
		for r, dr := range b.dims {
			for c, dc := range b.dims {
				m.in[i][dr*headDim+dc] = float32(sol.in[i].At(r, c))
				m.out[i][dr*headDim+dc] = float32(sol.out[i].At(r, c))
			}
		}
	}
}

// summary returns the fit over all blocks. An empty head fits.
func (p *projection) summary(fits []fit, scales []float64) Fit {
	var all fit
	scale := 0.0
	for b, f := range fits {
		all.add(f)
		scale += scales[b] * float64(len(p.blocks[b].dims)) / float64(p.headDim)
	}
	f := Fit{Cosine: 1, Energy: 1, Scale: scale}
	if all.own > 0 && all.given > 0 {
		f.Cosine = all.cosine()
	}
	if all.total > 0 {
		f.Energy, f.Error = all.kept/all.total, math.Max(0, all.lost/all.total)
	}
	return f
}

// build returns the attention with the groups' shared heads.
func (a *Attention) build(parts [][]int, keys, values []maps) *Attention {
	b := *a
	b.KVHeads = len(parts)
	b.K, b.V = a.share(a.K, parts, keys), a.share(a.V, parts, values)
	b.Q, b.O = a.readKeys(parts, keys), a.readValues(parts, values)
	b.KNorm, b.QNorm = a.shareNorm(parts, keys), a.readNorm(parts, keys)
	b.Distances = a.moveDistances(parts)
	return &b
}

// moveDistances returns the table of position biases with its columns in the query heads' new order.
func (a *Attention) moveDistances(parts [][]int) []float32 {
	if a.Distances == nil {
		return nil
	}
	moved := make([]float32, len(a.Distances))
	a.readers(parts, nil, func(at, h int, _ []float32) {
		for row := 0; row < len(moved); row += a.Heads {
			moved[row+at] = a.Distances[row+h]
		}
	})
	return moved
}

// share returns Σ in[m]·member m, rows and biases, for every group.
func (a *Attention) share(l Linear, parts [][]int, all []maps) Linear {
	d := a.HeadDim
	s := Linear{W: make([]float32, len(parts)*d*l.In), In: l.In}
	if l.Bias != nil {
		s.Bias = make([]float32, len(parts)*d)
	}
	for g, members := range parts {
		for m, h := range members {
			in := all[g].in[m]
			blas.Gemm(false, false, d, l.In, d, 1, in, d, l.rows(h, d), l.In, 1, s.rows(g, d), l.In)
			if l.Bias != nil {
				blas.Gemm(false, false, d, 1, d, 1, in, d, l.Bias[h*d:], 1, 1, s.Bias[g*d:], 1)
			}
		}
	}
	return s
}

// readers calls f for every query head in the new order, with its new position at, its old position h, and the map from
// the shared head to the one that it read, if there are maps.
func (a *Attention) readers(parts [][]int, all []maps, f func(at, h int, out []float32)) {
	at := 0
	for g, members := range parts {
		for m, kv := range members {
			var out []float32
			if all != nil {
				out = all[g].out[m]
			}
			for r := range a.groupSize() {
				f(at, kv*a.groupSize()+r, out)
				at++
			}
		}
	}
}

// readKeys returns q for shared keys: q·(out·k) = (outᵀ·q)·k.
func (a *Attention) readKeys(parts [][]int, all []maps) Linear {
	d := a.HeadDim
	q := Linear{W: make([]float32, len(a.Q.W)), In: a.Q.In}
	if a.Q.Bias != nil {
		q.Bias = make([]float32, len(a.Q.Bias))
	}
	a.readers(parts, all, func(at, h int, out []float32) {
		blas.Gemm(true, false, d, q.In, d, 1, out, d, a.Q.rows(h, d), q.In, 0, q.rows(at, d), q.In)
		if q.Bias != nil {
			blas.Gemm(true, false, d, 1, d, 1, out, d, a.Q.Bias[h*d:], 1, 0, q.Bias[at*d:], 1)
		}
	})
	return q
}

// readValues returns o for shared values: o·(out·v) = (o·out)·v.
func (a *Attention) readValues(parts [][]int, all []maps) Linear {
	d, width := a.HeadDim, a.O.In
	o := Linear{W: make([]float32, len(a.O.W)), Bias: a.O.Bias, In: width}
	a.readers(parts, all, func(at, h int, out []float32) {
		blas.Gemm(false, false, len(a.O.W)/width, d, d, 1, a.O.W[h*d:], width, out, d, 0, o.W[at*d:], width)
	})
	return o
}

// shareNorm pools the weights of the keys' norm, in the proportions of the keys. Signs come after the weights: they
// only change the bias.
func (a *Attention) shareNorm(parts [][]int, all []maps) Vector {
	d := a.HeadDim
	n := a.KNorm.sized(len(parts) * d)
	for g, members := range parts {
		for i := range d {
			at, sum := i*d+i, float32(0)
			for m := range members {
				sum += abs(all[g].in[m][at])
			}
			for m, h := range members {
				share, sign := abs(all[g].in[m][at])/sum, all[g].out[m][at]
				n.add(g*d+i, a.KNorm, h*d+i, share, share*sign)
			}
		}
	}
	return n
}

// readNorm returns the norm of the queries in their new order.
func (a *Attention) readNorm(parts [][]int, all []maps) Vector {
	d := a.HeadDim
	n := a.QNorm.sized(a.Heads * d)
	a.readers(parts, all, func(at, h int, out []float32) {
		for i := range d {
			n.add(at*d+i, a.QNorm, h*d+i, 1, out[i*d+i])
		}
	})
	return n
}

// sized returns a zero vector of n elements with the same parts as v.
func (v Vector) sized(n int) (s Vector) {
	if v.W != nil {
		s.W = make([]float32, n)
	}
	if v.Bias != nil {
		s.Bias = make([]float32, n)
	}
	return s
}

// add adds element i of w to element at of v, with separate factors for weight and bias.
func (v Vector) add(at int, w Vector, i int, weight, bias float32) {
	if v.W != nil {
		v.W[at] += weight * w.W[i]
	}
	if v.Bias != nil {
		v.Bias[at] += bias * w.Bias[i]
	}
}

func abs(x float32) float32 { return max(x, -x) }

// foldConstant adds to the bias of merged's o the constant part of a's output that shared values lose: the mean of v
// through o.
func (a *Attention) foldConstant(merged *Attention, kv *Moment) {
	was, is := kv.MeanOf(a.V), kv.MeanOf(merged.V)
	bias := make([]float64, len(merged.O.Bias))
	for h := range a.Heads {
		a.addConstant(bias, h, was[h/a.groupSize()*a.HeadDim:], 1)
		merged.addConstant(bias, h, is[h/merged.groupSize()*merged.HeadDim:], -1)
	}
	folded := make([]float32, len(bias))
	for i, x := range bias {
		folded[i] = a.O.Bias[i] + float32(x)
	}
	merged.O.Bias = folded
}

// addConstant adds sign·o·v of one query head to the output's constant part.
func (a *Attention) addConstant(sum []float64, head int, v []float64, sign float64) {
	for i := range sum {
		row := a.O.W[i*a.O.In+head*a.HeadDim:][:a.HeadDim]
		for j, x := range row {
			sum[i] += sign * float64(x) * v[j]
		}
	}
}
