package merge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
)

// source is a random attention module whose heads will be made alike.
type source struct {
	name                    string
	heads, kvHeads, headDim int
	invariance              Invariance
	rotated                 int
	interleaved             bool
	bias, outBias, norm     bool
}

var sources = []source{
	{name: "no positions", heads: 6, kvHeads: 6, headDim: 5, invariance: AnyMap(5)},
	{name: "biases", heads: 6, kvHeads: 6, headDim: 4, invariance: AnyMap(4), bias: true, outBias: true},
	{name: "bias of v alone", heads: 4, kvHeads: 4, headDim: 4, invariance: AnyMap(4), bias: true},
	{name: "rotary", heads: 6, kvHeads: 6, headDim: 8, invariance: Rotary(8, 8, false), rotated: 8},
	{name: "interleaved rotary with biases", heads: 4, kvHeads: 4, headDim: 6, invariance: Rotary(6, 6, true), rotated: 6, interleaved: true, bias: true, outBias: true},
	{name: "partial rotary", heads: 4, kvHeads: 4, headDim: 7, invariance: Rotary(7, 4, false), rotated: 4, bias: true},
	{name: "grouped already", heads: 8, kvHeads: 4, headDim: 4, invariance: Rotary(4, 4, false), rotated: 4, bias: true},
	{name: "normed keys", heads: 4, kvHeads: 4, headDim: 6, invariance: Rotary(6, 6, false).SignsOnly(), rotated: 6, norm: true},
	{name: "one sign", heads: 4, kvHeads: 4, headDim: 4, invariance: OneSign(4), norm: true},
	{name: "nothing free", heads: 4, kvHeads: 4, headDim: 4, invariance: NoMap(4), norm: true},
}

const in, out, tokens = 16, 14, 11

func (s source) make(r *rand.Rand) *Attention {
	a := &Attention{
		Heads: s.heads, KVHeads: s.kvHeads, HeadDim: s.headDim, Key: s.invariance, Value: AnyMap(s.headDim),
		Q: linear(r, s.heads*s.headDim, in, s.bias), K: linear(r, s.kvHeads*s.headDim, in, s.bias),
		V: linear(r, s.kvHeads*s.headDim, in, s.bias), O: linear(r, out, s.heads*s.headDim, s.outBias),
	}
	a.Distances = noise(r, 3*s.heads)
	if s.norm {
		a.QNorm, a.KNorm = Vector{W: noise(r, s.heads*s.headDim)}, Vector{W: noise(r, s.kvHeads*s.headDim)}
	}
	return a
}

func linear(r *rand.Rand, rows, cols int, bias bool) Linear {
	l := Linear{W: noise(r, rows*cols), In: cols}
	if bias {
		l.Bias = noise(r, rows)
	}
	return l
}

func noise(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64()) / 3
	}
	return x
}

// alike makes the KV heads of each part the same up to a random map that the reader's side can undo: orthogonal, or with
// invertible any.
func alike(r *rand.Rand, a *Attention, parts [][]int, invertible bool) {
	d := a.HeadDim
	for _, members := range parts {
		for _, h := range members[1:] {
			for _, x := range []struct {
				l Linear
				f Invariance
			}{{a.K, a.Key}, {a.V, a.Value}} {
				t := gauge(r, x.f, d, invertible)
				multiply(t, d, x.l.rows(members[0], d), x.l.rows(h, d), x.l.In)
				if x.l.Bias != nil {
					multiply(t, d, x.l.Bias[members[0]*d:][:d], x.l.Bias[h*d:][:d], 1)
				}
			}
			if a.KNorm.W != nil {
				copy(a.KNorm.W[h*d:][:d], a.KNorm.W[members[0]*d:])
			}
		}
	}
}

func multiply(t []float32, d int, from, to []float32, cols int) {
	blas.GemmRef(false, false, d, cols, d, 1, t, d, from, cols, 0, to, cols)
}

// gauge returns a random map of the invariance.
func gauge(r *rand.Rand, f Invariance, d int, invertible bool) []float32 {
	t := mat.NewDense(d, d, nil)
	n := len(f.Free)
	if n > 0 {
		random := mat.NewDense(n, n, nil)
		for i := range n {
			for j := range n {
				random.Set(i, j, r.NormFloat64())
			}
		}
		if !invertible {
			turned := single(random)
			polar(turned, n)
			random = double(turned, n, n)
		}
		for i, di := range f.Free {
			for j, dj := range f.Free {
				t.Set(di, dj, random.At(i, j))
			}
		}
	}
	for _, p := range f.Planes {
		size, angle := 1.0, 2*math.Pi*r.Float64()
		if invertible {
			size = 0.5 + r.Float64()
		}
		z := complexMap(complex(size*math.Cos(angle), size*math.Sin(angle)))
		for i := range 2 {
			for j := range 2 {
				t.Set(p[i], p[j], z.At(i, j))
			}
		}
	}
	for _, i := range f.Fixed {
		t.Set(i, i, 1)
	}
	for _, dims := range f.Signs {
		sign := float64(2*r.IntN(2) - 1)
		for _, i := range dims {
			t.Set(i, i, sign)
		}
	}
	return floats(t)
}

func floats(m *mat.Dense) []float32 {
	var all []float32
	for _, x := range m.RawMatrix().Data {
		all = append(all, float32(x))
	}
	return all
}

// run returns the module's output on x [tokens, in]: [tokens, out].
func (s source) run(a *Attention, x []float32) []float32 {
	project := func(l Linear, n Vector) []float32 {
		rows := len(l.W) / l.In
		y := make([]float32, tokens*rows)
		blas.GemmRef(false, true, tokens, rows, l.In, 1, x, l.In, l.W, l.In, 0, y, rows)
		for t := range tokens {
			for i := range rows {
				if l.Bias != nil {
					y[t*rows+i] += l.Bias[i]
				}
			}
			if n.W != nil {
				normalise(y[t*rows:(t+1)*rows], n.W)
			}
		}
		return y
	}
	q, k, v := project(a.Q, a.QNorm), project(a.K, a.KNorm), project(a.V, Vector{})
	freqs := make([]float64, s.rotated/2)
	pos := make([]int32, tokens)
	for i := range freqs {
		freqs[i] = 1 / float64(i+1)
	}
	for i := range pos {
		pos[i] = int32(i)
	}
	if s.rotated > 0 {
		table := nn.NewRopeTable(freqs, tokens, 1, s.interleaved)
		table.RotateRef(q, slices.Clone(q), pos, a.Heads, a.HeadDim, false)
		table.RotateRef(k, slices.Clone(k), pos, a.KVHeads, a.HeadDim, false)
	}
	view := func(x []float32) nn.View {
		return nn.View{Data: x, Head: a.HeadDim, Row: len(x) / tokens, Seq: len(x)}
	}
	mixed := make([]float32, len(q))
	nn.AttendRef(nn.Attention{
		Batch: 1, Queries: tokens, Keys: tokens, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim, Scale: 0.7, Causal: true,
	}, view(mixed), nil, view(q), view(k), view(v))
	y := make([]float32, tokens*out)
	blas.GemmRef(false, true, tokens, out, a.O.In, 1, mixed, a.O.In, a.O.W, a.O.In, 0, y, out)
	for i := range y {
		if a.O.Bias != nil {
			y[i] += a.O.Bias[i%out]
		}
	}
	return y
}

// normalise applies the root-mean-square norm over all heads.
func normalise(x, w []float32) {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	for i := range x {
		x[i] *= float32(1/math.Sqrt(sum/float64(len(x)))) * w[i]
	}
}

// moment returns a random moment with a mean.
func moment(r *rand.Rand) *Moment {
	m := &Moment{Mean: noise(r, in), Cov: make([]float32, in*in)}
	root := noise(r, in*in)
	blas.GemmRef(false, true, in, in, in, 1, root, in, root, in, 0, m.Cov, in)
	return m
}

func largestDifference(a, b []float32) float64 {
	d := 0.0
	for i := range a {
		d = max(d, math.Abs(float64(a[i])-float64(b[i])))
	}
	return d
}

// TestFunctionKept merges heads that are alike up to what can be undone: the output stays, with and without moments.
func TestFunctionKept(t *testing.T) {
	for _, s := range sources {
		for _, method := range []Method{Align, Calibrated} {
			for _, similar := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/similar=%v", s.name, method, similar), func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, 2))
					for _, groups := range []int{1, 2} {
						a, parts := s.make(r), contiguous(s.kvHeads, groups)
						if similar {
							shuffle(r, parts)
						}
						alike(r, a, parts, method == Calibrated)
						want := s.run(a, noise(rand.New(rand.NewPCG(3, 4)), tokens*in))
						for _, known := range []*Moment{nil, moment(r)} {
							m, report := merged(t, a, Inputs{known, known}, Options{Groups: groups, Method: method, Similar: similar})
							got := s.run(m, noise(rand.New(rand.NewPCG(3, 4)), tokens*in))
							if d := largestDifference(got, want); !(d < 1e-4) {
								t.Errorf("%d groups, moment %v: outputs differ by %g", groups, known != nil, d)
							}
							for _, g := range report {
								if g.K.Energy < 0.9999 || g.V.Energy < 0.9999 || g.K.Error > 1e-4 || g.V.Error > 1e-4 || g.V.Cosine < 0.999 {
									t.Errorf("%d groups: fit %+v", groups, g)
								}
							}
						}
					}
				})
			}
		}
	}
}

// shuffle redistributes the heads among the parts.
func shuffle(r *rand.Rand, parts [][]int) {
	var all []int
	for _, p := range parts {
		all = append(all, p...)
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	at := 0
	for _, p := range parts {
		at += copy(p, all[at:])
	}
}

// TestPermutation checks that as many groups as heads give the module itself, and that no method changes what a permutation
// keeps.
func TestPermutation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, s := range sources {
		a := s.make(r)
		x := noise(r, tokens*in)
		want := s.run(a, x)
		for _, method := range []Method{Mean, First, Align, Calibrated} {
			same, _ := merged(t, a, Inputs{}, Options{Groups: s.kvHeads, Method: method})
			if !slices.Equal(same.K.W, a.K.W) || !slices.Equal(same.Q.W, a.Q.W) || !slices.Equal(same.V.W, a.V.W) || !slices.Equal(same.O.W, a.O.W) {
				t.Errorf("%s, %s: a head alone is not kept", s.name, method)
			}
		}
		var parts [][]int
		for h := range s.kvHeads {
			parts = append(parts, []int{h})
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		k, v, err := a.projections(t.Context(), Inputs{}, parts)
		if err != nil {
			t.Fatal(err)
		}
		moved := a.build(parts, k.merge(Align, parts), v.merge(Align, parts))
		if d := largestDifference(s.run(moved, x), want); d > 1e-5 {
			t.Errorf("%s: permuted heads differ by %g", s.name, d)
		}
		for at, h := range parts {
			for r := range a.groupSize() {
				if got, want := moved.Distances[a.Heads+at*a.groupSize()+r], a.Distances[a.Heads+h[0]*a.groupSize()+r]; got != want {
					t.Errorf("%s: the bias of head %d is %v, want %v", s.name, at, got, want)
				}
			}
		}
	}
}

// TestLowRankIsOptimal compares what values keep with the singular values of O·V in the metric of the inputs, stacked.
func TestLowRankIsOptimal(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := source{heads: 4, kvHeads: 4, headDim: 3, invariance: AnyMap(3)}
	a, m := s.make(r), moment(r)
	_, groups := merged(t, a, Inputs{m, m}, Options{Groups: 1, Method: Calibrated})

	second := mat.NewSymDense(in, nil)
	for i := range in {
		for j := i; j < in; j++ {
			second.SetSym(i, j, float64(m.Cov[i*in+j])+float64(m.Mean[i])*float64(m.Mean[j]))
		}
	}
	metric, _ := Root(second)
	stack := mat.NewDense(4*out, in, nil)
	for h := range 4 {
		o, v := mat.NewDense(out, 3, nil), mat.NewDense(3, in, nil)
		for i := range out {
			for d := range 3 {
				o.Set(i, d, float64(a.O.W[i*12+h*3+d]))
			}
		}
		for d := range 3 {
			for j := range in {
				v.Set(d, j, float64(a.V.W[(h*3+d)*in+j]))
			}
		}
		var ov, both mat.Dense
		ov.Mul(o, v)
		both.Mul(&ov, metric)
		stack.Slice(h*out, (h+1)*out, 0, in).(*mat.Dense).Copy(&both)
	}
	var svd mat.SVD
	svd.Factorize(stack, mat.SVDNone)
	top, all := 0.0, 0.0
	for i, x := range svd.Values(nil) {
		all += x * x
		if i < 3 {
			top += x * x
		}
	}
	if got, want := groups[0].V.Energy, top/all; math.Abs(got-want) > 1e-5 || math.Abs(groups[0].V.Error-(1-want)) > 1e-5 {
		t.Errorf("energy %v, error %v; the singular values keep %v", got, groups[0].V.Error, want)
	}
}

// TestMethodsInOrder checks that each method loses no more than the one before, in the readers' metric.
func TestMethodsInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for _, s := range sources[:7] {
		a, m := s.make(r), moment(r)
		var before Group
		for i, method := range []Method{Mean, Align, Calibrated} {
			_, groups := merged(t, a, Inputs{m, m}, Options{Groups: 1, Method: method})
			g := groups[0]
			if i > 0 && (g.V.Energy < before.V.Energy-1e-6 || g.K.Energy < before.K.Energy-1e-6) {
				t.Errorf("%s: %s keeps %.4f of k and %.4f of v, the method before %.4f and %.4f",
					s.name, method, g.K.Energy, g.V.Energy, before.K.Energy, before.V.Energy)
			}
			before = g
		}
	}
}

// TestSearches compares the exhaustive search with all partitions, and annealing with the exhaustive one where pairs tell all.
func TestSearches(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, c := range []struct{ heads, size int }{{4, 2}, {6, 3}, {8, 2}, {8, 4}, {9, 3}} {
		pair := make([][]float64, c.heads)
		for i := range pair {
			pair[i] = make([]float64, c.heads)
			for j := range i {
				pair[i][j] = r.Float64()
				pair[j][i] = pair[i][j]
			}
		}
		energy := func(g []int) float64 {
			sum := 0.0
			for _, i := range g {
				for _, j := range g {
					sum += pair[i][j] / 2
				}
			}
			return sum
		}
		value := func(parts [][]int) float64 {
			sum := 0.0
			for _, p := range parts {
				sum += energy(p)
			}
			return sum
		}
		best := math.Inf(-1)
		partitions(c.heads, c.size, nil, func(parts [][]int) { best = max(best, value(parts)) })
		sets := subsets(c.heads, c.size)
		energies := make([]float64, len(sets))
		for i, set := range sets {
			energies[i] = energy(members(set))
		}
		if got := value(partition(c.heads, c.size, sets, energies)); math.Abs(got-best) > 1e-9 {
			t.Errorf("%d heads by %d: exhaustive finds %v, the best is %v", c.heads, c.size, got, best)
		}
		if got := value(anneal(c.heads, c.size, pair, 1)); math.Abs(got-best) > 1e-9 {
			t.Errorf("%d heads by %d: annealing finds %v, the best is %v", c.heads, c.size, got, best)
		}
	}
}

// partitions calls f for every partition of the heads.
func partitions(heads, size int, parts [][]int, f func([][]int)) {
	used := map[int]bool{}
	for _, p := range parts {
		for _, h := range p {
			used[h] = true
		}
	}
	var left []int
	for h := range heads {
		if !used[h] {
			left = append(left, h)
		}
	}
	if len(left) == 0 {
		f(parts)
		return
	}
	for _, set := range subsets(heads, size) {
		g := members(set)
		if g[0] == left[0] && !slices.ContainsFunc(g, func(h int) bool { return used[h] }) {
			partitions(heads, size, append(slices.Clone(parts), g), f)
		}
	}
}

// TestManyHeads finds pairs of equal heads among more than can be searched exhaustively.
func TestManyHeads(t *testing.T) {
	s := source{heads: 32, kvHeads: 32, headDim: 4, invariance: Rotary(4, 4, false), rotated: 4}
	r := rand.New(rand.NewPCG(4, 4))
	a, parts := s.make(r), contiguous(32, 16)
	shuffle(r, parts)
	alike(r, a, parts, true)
	_, groups := merged(t, a, Inputs{}, Options{Groups: 16, Method: Calibrated, Similar: true, Seed: 3})
	for _, g := range groups {
		if g.K.Energy+g.V.Energy < 1.9999 {
			t.Errorf("heads %v are not alike: %+v", g.Members, g)
		}
	}
}

// merged is like Merge, but fails the test on an error.
func merged(t *testing.T, a *Attention, in Inputs, o Options) (*Attention, []Group) {
	t.Helper()
	m, groups, err := Merge(t.Context(), a, in, o)
	if err != nil {
		t.Fatal(err)
	}
	return m, groups
}

// TestPartitionEnds: energies that are NaN, or all equal, still give groups.
func TestPartitionEnds(t *testing.T) {
	sets := subsets(8, 4)
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0} {
		groups := partition(8, 4, sets, slices.Repeat([]float64{x}, len(sets)))
		if len(groups) != 2 || len(groups[0]) != 4 || len(groups[1]) != 4 || slices.ContainsFunc(groups[0], func(h int) bool { return slices.Contains(groups[1], h) }) {
			t.Errorf("energies of %v: groups %v", x, groups)
		}
	}
}

// TestMergeRefusesWhatOverflows: weights that are finite, but whose moments are not, are an error of every method.
func TestMergeRefusesWhatOverflows(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, x := range []float32{1e20, 1e38, float32(math.NaN()), float32(math.Inf(1))} {
		for _, method := range []Method{Mean, First, Align, Calibrated} {
			for _, similar := range []bool{false, true} {
				for name, at := range map[string]func(a *Attention) []float32{
					"q": func(a *Attention) []float32 { return a.Q.W }, "k": func(a *Attention) []float32 { return a.K.W },
					"v": func(a *Attention) []float32 { return a.V.W }, "o": func(a *Attention) []float32 { return a.O.W },
				} {
					a := &Attention{Heads: 8, KVHeads: 8, HeadDim: 4, Key: Rotary(4, 4, false), Value: AnyMap(4)}
					for _, l := range []*Linear{&a.Q, &a.K, &a.V, &a.O} {
						*l = linear(r, 32, 32, false)
					}
					at(a)[37] = x
					_, _, err := Merge(t.Context(), a, Inputs{}, Options{Groups: 2, Method: method, Similar: similar})
					if err == nil || !strings.Contains(err.Error(), "weights or activations are too large") {
						t.Errorf("%v in %s, %s, similar %t: error %v", x, name, method, similar, err)
					}
				}
			}
		}
	}
}

// TestMergeStops checks that Merge returns soon after it is cancelled.
func TestMergeStops(t *testing.T) {
	const heads, dim = 64, 64
	r := rand.New(rand.NewPCG(6, 6))
	a := &Attention{Heads: heads, KVHeads: heads, HeadDim: dim, Key: AnyMap(dim), Value: AnyMap(dim)}
	for _, l := range []*Linear{&a.Q, &a.K, &a.V, &a.O} {
		*l = linear(r, heads*dim, heads*dim, false)
	}
	for _, o := range []Options{{Groups: 2, Method: Align}, {Groups: 2, Method: Calibrated}, {Groups: 2, Method: Calibrated, Similar: true}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		began := time.Now()
		_, _, err := Merge(ctx, a, Inputs{}, o)
		cancel()
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
			t.Errorf("%+v: error %v after %v", o, err, took)
		}
	}
}
