package merge

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gqa/internal/cpu/pool"

	"gonum.org/v1/gonum/mat"
)

// projection is a linear layer whose heads, keys or values, are to be shared, in the metric of its readers.
type projection struct {
	ctx     context.Context // of the current merge: long computations stop early, without a result, if it is done
	headDim int
	gram    []float32 // [kvHeads*headDim]²: covariance of the outputs, between heads that may share
	mean    []float64 // [kvHeads*headDim]: mean of the outputs
	readers []*mat.SymDense
	blocks  []block
	roots   []rooted // for the free block's readers, by head; set by findRoots
}

// rooted is the root of a second moment and its inverse.
type rooted struct{ root, inverse *mat.Dense }

// block is a set of dims of a head that are mapped together.
type block struct {
	kind    kind
	dims    []int
	centred bool // a constant added to the outputs has no effect, or is compensated elsewhere
}

type kind int

const (
	free  kind = iota // any invertible map
	plane             // a complex number
	sign
	fixed // none
)

func (f Invariance) blocks(centred bool) []block {
	var all []block
	for _, p := range f.Planes {
		all = append(all, block{kind: plane, dims: p[:]})
	}
	for _, s := range f.Signs {
		all = append(all, block{kind: sign, dims: s})
	}
	if len(f.Fixed) > 0 {
		all = append(all, block{kind: fixed, dims: f.Fixed})
	}
	if len(f.Free) > 0 {
		all = append(all, block{kind: free, dims: f.Free, centred: centred})
	}
	return all
}

// projections returns the keys and values of a, whose heads may share within the parts.
func (a *Attention) projections(ctx context.Context, in Inputs, parts [][]int) (k, v *projection, err error) {
	kv := in.KeyValue
	k = &projection{
		ctx: ctx, headDim: a.HeadDim, gram: kv.gram(ctx, a.K, a.HeadDim, parts), mean: kv.MeanOf(a.K), readers: a.queryReaders(ctx, in.Query),
		// q·b is the same for every key and cancels in the softmax, unless b is rotated by the key's position.
		blocks: a.Key.blocks(true),
	}
	v = &projection{
		ctx: ctx, headDim: a.HeadDim, gram: kv.gram(ctx, a.V, a.HeadDim, parts), mean: kv.MeanOf(a.V), readers: a.outputReaders(),
		// Probabilities sum to one, so a constant in v is one in the output, which o's bias compensates if there is
		// one.
		blocks: a.Value.blocks(a.O.Bias != nil),
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if err := k.check(); err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	if err := v.check(); err != nil {
		return nil, nil, fmt.Errorf("values: %w", err)
	}
	return k, v, nil
}

// largestMoment leaves room for sums of products in float32.
const largestMoment = 1e30

// check rejects moments that would later overflow.
func (p *projection) check() error {
	for i, mean := range p.mean {
		for _, x := range p.gram[i*len(p.mean):][:len(p.mean)] {
			if !(math.Abs(float64(x)) <= largestMoment) {
				return fmt.Errorf("the covariance of their dims reaches %g, too large to compute with: weights or activations are too large", x)
			}
		}
		if !(mean*mean <= largestMoment) {
			return fmt.Errorf("their mean reaches %g, too large to compute with: weights or activations are too large", mean)
		}
	}
	if total := p.total(); !(total <= largestMoment) {
		return fmt.Errorf("their second moment in their readers' metric is %g, too large to compute with: weights or activations are too large", total)
	}
	return nil
}

// stopped reports whether the merge is cancelled.
func (p *projection) stopped() bool { return p.ctx.Err() != nil }

// second returns the second moment of dim i of head a and dim j of head b.
func (p *projection) second(b block, head1, i, head2, j int) float64 {
	r, c := head1*p.headDim+i, head2*p.headDim+j
	x := float64(p.gram[r*len(p.mean)+c])
	if !b.centred {
		x += p.mean[r] * p.mean[c]
	}
	return x
}

// blockElements is about the number of elements that justify another thread.
const blockElements = 1 << 14

// moments returns the block's second moments between the members, which are consecutive: [len(members)*len(dims)]².
func (p *projection) moments(b block, members []int) []float32 {
	dim := len(b.dims)
	wide := len(members) * dim
	all := make([]float32, wide*wide)
	pool.For(wide, max(1, blockElements/wide), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row := all[r*wide:][:wide]
			for m, h := range members {
				for j, d := range b.dims {
					row[m*dim+j] = float32(p.second(b, members[r/dim], b.dims[r%dim], h, d))
				}
			}
		}
	})
	return all
}

// findRoots prepares the roots of the readers for lowRank.
func (p *projection) findRoots() {
	for _, b := range p.blocks {
		if b.kind != free || p.roots != nil {
			continue
		}
		p.roots = make([]rooted, len(p.readers))
		pool.For(len(p.roots), 1, func(lo, hi int) {
			for h := lo; h < hi; h++ {
				p.roots[h].root, p.roots[h].inverse = Root(p.reader(b, h))
			}
		})
	}
}

// reader returns the block's part of the second moment of a head's readers.
func (p *projection) reader(b block, head int) *mat.SymDense {
	m := mat.NewSymDense(len(b.dims), nil)
	for i, di := range b.dims {
		for j, dj := range b.dims[i:] {
			m.SetSym(i, i+j, p.readers[head].At(di, dj))
		}
	}
	return m
}

// solution describes how the members of a group share one head, within a block: shared = Σ in[m]·member m, and member m
// ≈ out[m]·shared, where the reader applies out[m].
type solution struct {
	in, out []*mat.Dense
	scale   float64 // factor that keeps the members' size, applied to the shared head or its readers
}

// identity returns the solution for a group with one member.
func identity(n int) solution {
	return solution{[]*mat.Dense{scaled(n, 1)}, []*mat.Dense{scaled(n, 1)}, 1}
}

// scaled returns s times the identity.
func scaled(n int, s float64) *mat.Dense {
	m := mat.NewDense(n, n, nil)
	for i := range n {
		m.Set(i, i, s)
	}
	return m
}

// solver determines how members share within a block.
type solver func(p *projection, b block, members []int) solution

// solvers are the methods' solvers for each kind of block.
var solvers = map[Method]map[kind]solver{
	Mean:       {free: average, plane: average, sign: average, fixed: average},
	First:      {free: takeFirst, plane: takeFirst, sign: takeFirst, fixed: takeFirst},
	Align:      {free: alignFree, plane: alignPlane, sign: alignSign, fixed: alignFixed},
	Calibrated: {free: lowRank, plane: lowRankPlane, sign: alignSign, fixed: alignFixed},
}

func (p *projection) solve(m Method, b block, members []int) solution {
	if len(members) == 1 {
		return identity(len(b.dims))
	}
	return solvers[m][b.kind](p, b, members)
}

// average returns the plain mean, without maps.
func average(_ *projection, b block, members []int) solution {
	var sol solution
	for range members {
		sol.in = append(sol.in, scaled(len(b.dims), 1/float64(len(members))))
		sol.out = append(sol.out, scaled(len(b.dims), 1))
	}
	sol.scale = 1
	return sol
}

// takeFirst shares the first member.
func takeFirst(_ *projection, b block, members []int) solution {
	n := len(b.dims)
	sol := solution{in: slices.Repeat([]*mat.Dense{mat.NewDense(n, n, nil)}, len(members)), scale: 1}
	sol.in[0] = scaled(n, 1)
	for range members {
		sol.out = append(sol.out, scaled(n, 1))
	}
	return sol
}
