// Package latent turns the attention of one layer, with rotary positions and any number of KV heads, into latent attention
// (DeepSeek-V2, arXiv 2405.04434, section 2.1): every key and value is a linear function of one latent without positions, and of one
// rotary key that all heads share. It is the maths of a single module, and knows nothing of models and checkpoints.
//
// A key that is rotated by its distance Δ from the query is a function of the distance and of the layer's input. So is each number that
// latent attention may use instead. The package chooses numbers whose linear combinations are near the keys and the values, for inputs
// with a given second moment and distances of which all orders of magnitude are equally frequent, and then the best combinations by
// least squares. A constant added to all scores of a query changes nothing, so it is left out of the distance.
package latent

import (
	"context"
	"errors"
	"fmt"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
)

// Options say which latent attention is wanted, and what the source's is beyond its weights.
type Options struct {
	Rank   int // width of the latent
	Planes int // rotary planes of the shared key, of two numbers each
	Nope   int // numbers of a head's queries and keys without positions; see NopeDim
	// QueryRank is the width of a latent that queries come from; 0 for none.
	QueryRank int

	InvFreq     []float64 // inverse frequency of each rotary plane of a source's head
	Interleaved bool      // the source's planes are (2i, 2i+1) instead of (i, i+n/2)
	RopeScale   float64   // factor for its cosines and sines
	Scale       float64   // factor for its scores
	Context     int       // number of positions

	// Fixed are the frequencies that the planes of the shared key must have, if they are not free.
	Fixed []float64
	// Norm allows for a norm of the latent: its last number is large and, if that is possible, nearly constant, so that the norm is, too.
	// With Bias it is a constant, by a bias.
	Norm, Bias bool
	// NewScale and NewRopeScale are the result's Scale and RopeScale, if they are not those of the source and 1.
	NewScale, NewRopeScale float64
}

// NopeDim returns the numbers of a head's queries and keys that have no positions: none if all planes of the source's keys are kept,
// otherwise as many as a head has dims, or as many as the latent has if these are fewer.
func (o Options) NopeDim(headDim, kvHeads int) int {
	if o.Fixed == nil && o.Planes == len(o.InvFreq)*kvHeads && 2*len(o.InvFreq) == headDim {
		return 0
	}
	return min(headDim, o.Rank)
}

// Attention holds the weights of one latent attention. Planes are adjacent rows (2i, 2i+1).
type Attention struct {
	Heads, Rank, Nope, Rope, Value int // Rope is twice the number of planes

	// QueryDown is what the queries are computed from: [query rank, in]; without weights if that is the input.
	QueryDown merge.Linear

	QNope   merge.Linear // [heads*nope, in or query rank]
	QRope   merge.Linear // [heads*rope, in or query rank]
	Latent  merge.Linear // [rank, in]
	KRope   merge.Linear // [rope, in]
	KeyUp   merge.Linear // [heads*nope, rank]
	ValueUp merge.Linear // [heads*value, rank]
	O       merge.Linear // [out, heads*value]
	InvFreq []float64    // of each plane
}

// Fit says how much is lost: relative squared errors of keys and values over the inputs and distances, weighted by what reads them.
type Fit struct{ Keys, Values float64 }

// Convert returns a as latent attention, without changing a. m is the moment of the layer's inputs; nil for the identity. a's keys must
// be linear in the input: without a norm, and not clipped.
func Convert(ctx context.Context, a *merge.Attention, m *merge.Moment, o Options) (*Attention, Fit, error) {
	least := 1
	if o.Norm {
		least = 2
	}
	if most := len(o.InvFreq) * a.KVHeads; o.Rank < least || o.Planes < 1 || o.Planes > most {
		return nil, Fit{}, fmt.Errorf("a latent of %d numbers and %d rotary planes: want at least %d and 1, and at most the %d planes of the keys", o.Rank, o.Planes, least, most)
	}
	s := newSource(ctx, a, m, o)
	if o.Norm {
		s.findConstant()
	}
	shared := s.choosePlanes()
	rotary := s.rows(shared)
	rest := s.rest(shared, rotary)
	features, ok := s.features(shared, rotary, rest)
	if err := ctx.Err(); err != nil {
		return nil, Fit{}, err
	}
	if !ok {
		return nil, Fit{}, errors.New("keys and values have no principal components: weights or activations are too large")
	}
	keys, lostKeys := s.decodeKeys(features, rest, shared)
	values, constant, lostValues := s.decodeValues(features)
	if keys == nil || values == nil {
		return nil, Fit{}, errors.New("least squares for keys and values has no finite solution: weights or activations are too large")
	}
	l := s.build(features, shared, keys, values)
	if o.QueryRank > 0 && !s.factorQueries(l) {
		return nil, Fit{}, errors.New("least squares for queries has no finite solution: weights or activations are too large")
	}
	if s.constant != nil {
		s.addConstant(l)
	}
	if constant != nil {
		l.O = s.withConstant(constant)
	}
	if !l.finite() {
		return nil, Fit{}, errors.New("the weights of the latent attention are not finite numbers: weights or activations are too large")
	}
	return l, Fit{lostKeys, lostValues}, ctx.Err()
}

// withConstant returns o with a constant part of the values, [KV heads*headDim], in its bias.
func (s *source) withConstant(values []float64) merge.Linear {
	o, d, group := s.a.O, s.a.HeadDim, s.a.Heads/s.a.KVHeads
	bias := make([]float32, len(o.Bias))
	for i := range bias {
		sum := float64(o.Bias[i])
		for j := range o.In {
			sum += float64(o.W[i*o.In+j]) * values[j/d/group*d+j%d]
		}
		bias[i] = float32(sum)
	}
	return merge.Linear{W: o.W, Bias: bias, In: o.In}
}

// finite reports whether all weights and biases are finite.
func (l *Attention) finite() bool {
	for _, w := range []merge.Linear{l.QNope, l.QRope, l.Latent, l.KRope, l.KeyUp, l.ValueUp, l.O} {
		if !blas.Finite(w.W) || !blas.Finite(w.Bias) {
			return false
		}
	}
	return true
}

// build returns the latent attention whose features approximate keys [features, KV heads*headDim] and values [rank, KV heads*headDim].
func (s *source) build(features merge.Linear, shared []plane, keys, values []float32) *Attention {
	a, o := s.a, s.o
	l := &Attention{Heads: a.Heads, Rank: o.Rank, Nope: o.Nope, Rope: 2 * len(shared), Value: a.HeadDim, O: a.O}
	l.Latent, l.KRope = part(features, 0, o.Rank), part(features, o.Rank, l.Rope)
	for _, p := range shared {
		l.InvFreq = append(l.InvFreq, p.freq)
	}
	l.QNope, l.QRope = newLinear(a.Heads*l.Nope, a.Q), newLinear(a.Heads*l.Rope, a.Q)
	l.KeyUp = merge.Linear{W: make([]float32, a.Heads*l.Nope*o.Rank), In: o.Rank}
	l.ValueUp = merge.Linear{W: make([]float32, a.Heads*l.Value*o.Rank), In: o.Rank}
	d, wide := a.HeadDim, a.KVHeads*a.HeadDim
	for h := range a.Heads {
		q, first := part(s.q, h*d, d), h/(a.Heads/a.KVHeads)*d
		apply(l.QRope, h*l.Rope, keys[o.Rank*wide+first:], wide, l.Rope, q)
		transpose(l.ValueUp.W[h*d*o.Rank:], values[first:], wide, o.Rank, d)
		switch {
		case l.Nope == d:
			apply(l.QNope, h*d, identity(d), d, d, q)
			transpose(l.KeyUp.W[h*d*o.Rank:], keys[first:], wide, o.Rank, d)
		case l.Nope > 0: // the latent has fewer numbers than a head, so queries read it directly
			apply(l.QNope, h*l.Nope, keys[first:], wide, l.Nope, q)
			copy(l.KeyUp.W[h*l.Nope*o.Rank:], identity(o.Rank))
		}
	}
	if o.NewScale != 0 {
		scaleRows(l.QNope, o.Scale/o.NewScale)
		scaleRows(l.QRope, o.Scale/o.NewScale/(o.NewRopeScale*o.NewRopeScale))
	}
	return l
}
