package latent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gqa/convert/merge"
)

// shape is an attention to test.
type shape struct {
	heads, kvHeads, headDim, dim, planes int
	interleaved, bias                    bool
}

func (s shape) String() string {
	return fmt.Sprintf("%dx%d of %d, %d planes, interleaved %v, bias %v", s.heads, s.kvHeads, s.headDim, s.planes, s.interleaved, s.bias)
}

func (s shape) attention(r *rand.Rand) *merge.Attention {
	linear := func(out, in int, bias bool) merge.Linear {
		l := merge.Linear{W: normal(r, out*in, 1/math.Sqrt(float64(in))), In: in}
		if bias {
			l.Bias = normal(r, out, 0.5)
		}
		return l
	}
	q, kv := s.heads*s.headDim, s.kvHeads*s.headDim
	return &merge.Attention{
		Heads: s.heads, KVHeads: s.kvHeads, HeadDim: s.headDim,
		Q: linear(q, s.dim, s.bias), K: linear(kv, s.dim, s.bias), V: linear(kv, s.dim, s.bias), O: linear(s.dim, q, false),
	}
}

func (s shape) options(rank, planes int) Options {
	o := Options{Rank: rank, Planes: planes, Interleaved: s.interleaved, RopeScale: 1.1, Scale: 1 / math.Sqrt(float64(s.headDim)), Context: 64}
	for i := range s.planes {
		o.InvFreq = append(o.InvFreq, math.Pow(1000, -float64(i)/float64(s.planes)))
	}
	return o
}

func normal(r *rand.Rand, n int, size float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * size)
	}
	return x
}

// moment returns the moment of inputs [n, dim].
func moment(x [][]float64) *merge.Moment {
	dim := len(x[0])
	m := &merge.Moment{Mean: make([]float32, dim), Cov: make([]float32, dim*dim)}
	mean := make([]float64, dim)
	for _, row := range x {
		for i, v := range row {
			mean[i] += v / float64(len(x))
		}
	}
	for i := range dim {
		m.Mean[i] = float32(mean[i])
		for j := range dim {
			sum := 0.0
			for _, row := range x {
				sum += (row[i] - mean[i]) * (row[j] - mean[j]) / float64(len(x))
			}
			m.Cov[i*dim+j] = float32(sum)
		}
	}
	return m
}

// inputs returns n rows [dim] of which few directions hold most.
func inputs(r *rand.Rand, n, dim int) [][]float64 {
	x := make([][]float64, n)
	for i := range x {
		x[i] = make([]float64, dim)
		for j := range x[i] {
			x[i][j] = (r.NormFloat64() + 0.3) * math.Exp(-3*float64(j)/float64(dim))
		}
	}
	return x
}

// times returns l of one input.
func times(l merge.Linear, x []float64) []float64 {
	y := make([]float64, len(l.W)/l.In)
	for i := range y {
		for j, v := range x {
			y[i] += float64(l.W[i*l.In+j]) * v
		}
		if l.Bias != nil {
			y[i] += float64(l.Bias[i])
		}
	}
	return y
}

// turned rotates the plane of elements a and b by an angle.
func turned(x []float64, a, b int, angle, scale float64) {
	c, s := scale*math.Cos(angle), scale*math.Sin(angle)
	x[a], x[b] = x[a]*c-x[b]*s, x[a]*s+x[b]*c
}

// groupedRef is causal attention as the source computes it: [tokens, out].
func groupedRef(a *merge.Attention, o Options, x [][]float64) [][]float64 {
	f := merge.Rotary(a.HeadDim, 2*len(o.InvFreq), o.Interleaved)
	project := func(l merge.Linear, pos, heads int, rotary bool) []float64 {
		y := times(l, x[pos])
		for h := range heads {
			for i, p := range f.Planes {
				if rotary {
					turned(y, h*a.HeadDim+p[0], h*a.HeadDim+p[1], float64(pos)*o.InvFreq[i], o.RopeScale)
				}
			}
		}
		return y
	}
	return attend(x, a.Heads, a.HeadDim, a.O, func(t, s, h int) (float64, []float64) {
		g := h / (a.Heads / a.KVHeads) * a.HeadDim
		q, k := project(a.Q, t, a.Heads, true)[h*a.HeadDim:][:a.HeadDim], project(a.K, s, a.KVHeads, true)[g:][:a.HeadDim]
		return o.Scale * dot(q, k), project(a.V, s, 0, false)[g:][:a.HeadDim]
	})
}

// latentRef is causal latent attention: [tokens, out].
func latentRef(l *Attention, o Options, x [][]float64, norm bool) [][]float64 {
	down := make([][]float64, len(x))
	for t := range x {
		if down[t] = x[t]; l.QueryDown.W != nil {
			down[t] = times(l.QueryDown, x[t])
		}
	}
	rotary := func(w merge.Linear, in [][]float64, pos, h int) []float64 {
		y := times(w, in[pos])[h*l.Rope:][:l.Rope]
		for i, freq := range l.InvFreq {
			turned(y, 2*i, 2*i+1, float64(pos)*freq, 1)
		}
		return y
	}
	scale := o.Scale
	if o.NewScale != 0 {
		scale = o.NewScale
	}
	return attend(x, l.Heads, l.Value, l.O, func(t, s, h int) (float64, []float64) {
		latent := times(l.Latent, x[s])
		if norm {
			size := math.Sqrt(dot(latent, latent)/float64(len(latent)) + 1e-6)
			for i := range latent {
				latent[i] /= size
			}
		}
		score := dot(rotary(l.QRope, down, t, h), rotary(l.KRope, x, s, 0))
		if l.Nope > 0 {
			score += dot(times(l.QNope, down[t])[h*l.Nope:][:l.Nope], times(l.KeyUp, latent)[h*l.Nope:])
		}
		return scale * score, times(l.ValueUp, latent)[h*l.Value:][:l.Value]
	})
}

func dot(x, y []float64) (sum float64) {
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// attend mixes values with the softmax of scores.
func attend(x [][]float64, heads, dim int, o merge.Linear, pair func(t, s, h int) (score float64, value []float64)) [][]float64 {
	var out [][]float64
	for t := range x {
		mixed := make([]float64, heads*dim)
		for h := range heads {
			total := 0.0
			for s := range t + 1 {
				score, value := pair(t, s, h)
				e := math.Exp(score)
				total += e
				for i, v := range value {
					mixed[h*dim+i] += e * v
				}
			}
			for i := range dim {
				mixed[h*dim+i] /= total
			}
		}
		out = append(out, times(o, mixed))
	}
	return out
}

// apart returns the relative squared distance of two lists of rows.
func apart(x, y [][]float64) float64 {
	off, size := 0.0, 0.0
	for i, row := range x {
		for j, v := range row {
			off, size = off+(v-y[i][j])*(v-y[i][j]), size+v*v
		}
	}
	return off / size
}

var shapes = []shape{
	{heads: 4, kvHeads: 4, headDim: 4, dim: 24, planes: 2},
	{heads: 4, kvHeads: 2, headDim: 6, dim: 24, planes: 3, interleaved: true, bias: true},
	{heads: 2, kvHeads: 2, headDim: 8, dim: 28, planes: 2, bias: true},
	{heads: 4, kvHeads: 1, headDim: 6, dim: 20, planes: 1, interleaved: true},
}

// TestExact holds latent attention with room for everything to the source.
func TestExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range shapes {
		a, x := s.attention(r), inputs(r, 12, s.dim)
		want := groupedRef(a, s.options(0, 0), x)
		for name, m := range map[string]*merge.Moment{"moment": moment(inputs(r, 200, s.dim)), "none": nil} {
			o := s.options(s.kvHeads*s.headDim, s.planes*s.kvHeads)
			if free := s.headDim - 2*s.planes; free > 0 {
				o.Rank += s.kvHeads * free
			}
			o.Rank = min(o.Rank, s.dim)
			o.Nope = o.NopeDim(s.headDim, s.kvHeads)
			if (2*s.planes == s.headDim) != (o.Nope == 0) {
				t.Errorf("%v: %d dims without positions", s, o.Nope)
			}
			l, fit, err := Convert(t.Context(), a, m, o)
			if err != nil {
				t.Fatal(err)
			}
			if off := apart(want, latentRef(l, o, x, false)); !(off < 1e-8) || fit.Keys > 1e-5 || fit.Values > 1e-5 {
				t.Errorf("%v, %s: relative squared error %.2g, fit %+v", s, name, off, fit)
			}
		}
	}
}

// TestLess compares what is lost with less room, and with and without knowledge of the inputs.
func TestLess(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range shapes[:3] {
		a, x := s.attention(r), inputs(r, 24, s.dim)
		m, want := moment(inputs(r, 400, s.dim)), groupedRef(a, s.options(0, 0), x)
		last := -1.0
		for _, rank := range []int{s.dim, s.dim / 2, s.dim / 4} {
			o := s.options(min(rank, 2*s.kvHeads*s.headDim), s.planes)
			o.Nope = o.NopeDim(s.headDim, s.kvHeads)
			lost := func(m *merge.Moment) float64 {
				l, fit, err := Convert(t.Context(), a, m, o)
				if err != nil {
					t.Fatal(err)
				}
				if !(fit.Keys >= 0 && fit.Keys < 1 && fit.Values >= 0 && fit.Values < 1) {
					t.Errorf("%v: fit %+v", s, fit)
				}
				return apart(want, latentRef(l, o, x, false))
			}
			known, unknown := lost(m), lost(nil)
			if known > unknown+1e-3 || known < last-0.01 {
				t.Errorf("%v, rank %d: error %.3f, without inputs %.3f, at the next higher rank %.3f", s, rank, known, unknown, last)
			}
			t.Logf("%v, rank %d: error %.4f, without inputs %.4f", s, rank, known, unknown)
			last = known
		}
	}
}

// TestQueryRank: queries from a latent with room for all that is asked of keys are exact, and with less room they lose more.
func TestQueryRank(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := shapes[0]
	a, x := s.attention(r), inputs(r, 12, s.dim)
	m, want, last := moment(inputs(r, 200, s.dim)), groupedRef(a, s.options(0, 0), x), -1.0
	for _, rank := range []int{16, 8, 2} {
		o := s.options(s.kvHeads*s.headDim, s.planes*s.kvHeads)
		o.QueryRank = rank
		l, _, err := Convert(t.Context(), a, m, o)
		if err != nil {
			t.Fatal(err)
		}
		off := apart(want, latentRef(l, o, x, false))
		if off <= last || rank == 16 && off > 1e-6 {
			t.Errorf("query rank %d: error %.2g, with more %.2g", rank, off, last)
		}
		last = off
	}
}

// TestNorm: a constant in the latent makes a norm harmless, with the frequencies of one head for all.
func TestNorm(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := shape{heads: 4, kvHeads: 4, headDim: 6, dim: 24, planes: 3}
	a, x, more := s.attention(r), inputs(r, 24, s.dim), inputs(r, 400, s.dim)
	for _, row := range append(more, x...) { // as after a norm with a direction that all tokens share
		row[3] += 4
	}
	m, want := moment(more), groupedRef(a, s.options(0, 0), x)
	lost := func(allow, bias, norm bool) float64 {
		o := s.options(16, 3)
		o.Fixed, o.NewScale, o.NewRopeScale, o.Norm, o.Bias, o.Nope = o.InvFreq, 0.3, 1.2, allow, bias, s.headDim
		if allow {
			o.Rank++
		}
		l, _, err := Convert(t.Context(), a, m, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.QRope.W { // the reference's cosines and sines have no factor
			l.QRope.W[i] *= 1.2 * 1.2
		}
		return apart(want, latentRef(l, o, x, norm))
	}
	free, bias, mean, without := lost(false, false, false), lost(true, true, true), lost(true, false, true), lost(false, false, true)
	if bias > free+0.01 || mean < bias || without < 2*bias || without < 1.2*mean {
		t.Errorf("error %.4f without a norm; with one %.4f and a bias, %.4f with a nearly constant number, %.4f alone", free, bias, mean, without)
	}
	t.Logf("error %.4f without a norm; with one %.4f and a bias, %.4f with a nearly constant number, %.4f alone", free, bias, mean, without)
}

// Inputs of few directions, as a trained model's are to float32, take nothing from the rest, for many heads and few.
func TestFewDirections(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, s := range []shape{{heads: 16, kvHeads: 16, headDim: 16, dim: 96, planes: 8}, {heads: 2, kvHeads: 2, headDim: 16, dim: 40, planes: 8, bias: true}} {
		x := inputs(r, 200, s.dim)
		for i := range x {
			for j := range x[i] {
				x[i][j] *= math.Exp(-float64(j))
			}
		}
		a, m := s.attention(r), moment(x)
		for _, rank := range []int{24, 64} {
			l, fit, err := Convert(t.Context(), a, m, s.options(rank, 4))
			if err != nil {
				t.Fatalf("%v, rank %d: %v", s, rank, err)
			}
			if !(fit.Values < 1e-4) || !(fit.Keys < 0.5) || !l.finite() {
				t.Errorf("%v, rank %d: errors %+v", s, rank, fit)
			}
		}
	}
	a := shape{heads: 2, kvHeads: 2, headDim: 16, dim: 40, planes: 8}.attention(r)
	m := moment(inputs(r, 50, 40))
	m.Cov[7] = float32(math.Inf(1))
	if _, _, err := Convert(t.Context(), a, m, shape{headDim: 16, planes: 8}.options(8, 4)); err == nil {
		t.Error("inputs without moments are no error")
	}
}
