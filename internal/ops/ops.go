// Package ops defines the operations that a forward pass needs from an engine. A model is written once against Ops.
// Each engine under internal/engine implements the operations for its own tensor type: one records an autograd graph,
// one keeps a KV cache and allocates nothing.
package ops

import "gqa/internal/activation"

// Batch is the input of one forward pass: Seqs sequences of Len tokens each, one after another.
type Batch struct {
	IDs  []int32 // [Seqs*Len] token IDs
	Pos  []int32 // [Seqs*Len] positions, from 0 at the start of a sequence
	Seqs int
	Len  int
	// Lens, if not nil, is the number of tokens of each sequence that are not padding [Seqs]. Padding is masked where
	// every token sees all others; with a causal mask, padding at the end has no effect.
	Lens []int
	// Firsts, if not nil, is for each token the first one of its sequence that it sees [Seqs*Len]: where its document begins. It has an
	// effect only with a causal mask, and never decreases within a sequence.
	Firsts []int32
	// Types, if not nil, are the token types [Seqs*Len]; nil means all 0.
	Types []int32
	// Source is the input of the encoder for a decoder's batch, with the same number of sequences. It is nil if there
	// is no encoder, or if the engine's cache holds its output.
	Source *Batch
}

// NewBatch lays out sequences of equal length, each starting at position 0.
func NewBatch(seqs ...[]int32) Batch {
	b := Batch{Seqs: len(seqs)}
	for _, s := range seqs {
		b.Len = len(s)
		for i, id := range s {
			b.IDs = append(b.IDs, id)
			b.Pos = append(b.Pos, int32(i))
		}
	}
	return b
}

// Linear is a weight W [out, in] and, if HasBias, a bias [out].
type Linear[T any] struct {
	W, Bias T
	HasBias bool
}

// Norm is a normalisation of rows, or of each piece of Dim elements of a row: root mean square or, with Layer, mean and
// variance. The result is multiplied by W + Offset, and Bias is added.
type Norm[T any] struct {
	W, Bias       T   // [dim], or [pieces, dim] if each piece of a row has its own
	Dim           int // 0: whole rows
	HasW, HasBias bool
	Layer         bool
	Offset        float32 // 1 in Gemma
	Eps           float32
}

// Rope is a rotary position embedding: the planes' inverse frequencies for the first 2*len(InvFreq) dims of a head.
// Planes are (i, i+len(InvFreq)), or (2i, 2i+1) if Interleaved. Engines cache the cosines and sines of a Rope by its
// address.
type Rope struct {
	InvFreq     []float64
	Interleaved bool
	Scale       float64 // factor for cosines and sines
	Positions   int     // length that the model was trained on; an engine may go further
	Long        *Rope   // replacement for sequences longer than LongFrom; nil: none
	LongFrom    int
}

// For returns the embedding to use for sequences with the given positions.
func (r *Rope) For(pos []int32) *Rope {
	if r.Long == nil {
		return r
	}
	for _, p := range pos {
		if int(p) >= r.LongFrom {
			return r.Long
		}
	}
	return r
}

// Attention is the grouped-query attention of one site: query head h reads KV head h / (Heads/KVHeads).
type Attention[T any] struct {
	Site                    int // index of the site among its kind, which selects its cache
	Heads, KVHeads, HeadDim int
	ValueDim                int // width of values and results; 0: HeadDim, which is that of queries and keys
	Scale                   float32
	Causal                  bool
	Window                  int  // with Causal: number of tokens visible to a token, including itself; 0: all before it
	Cross                   bool // keys and values come from Batch.Source
	Bias                    T    // [Heads*queries, keys], added to the scaled scores of every sequence
	HasBias                 bool
	Slopes                  []float32 // [Heads], ALiBi's: the scaled scores decrease by the slope times the distance of the key; nil: none
	CoarseSlopes            float32   // if not 0, factor for the biases of Slopes after rounding to bfloat16
}

// Relative assigns distances between query and key to Buckets: T5's learned position bias.
type Relative struct {
	Buckets     int
	MaxDistance int  // distances from here on share a bucket
	BothWays    bool // keys after the query have their own buckets
}

// Ops is the set of operations of an engine. The rows of a T are the batch's tokens: [tokens, dim].
//
// An engine may overwrite operands that a decoder does not need any more: Rotate, Activate, Gate, Scale and Clip may
// overwrite their first operand, and after Add(x, y), which ends a residual block, neither x nor anything computed
// after x may be used.
type Ops[T any] interface {
	Embed(table T, ids []int32, first int) T                // rows first+ids of table [n, dim] -> [tokens, dim]
	Linear(x T, w Linear[T]) T                              // x·Wᵀ (+ bias): [tokens, in] -> [tokens, out]
	Norm(x T, n Norm[T]) T                                  // for each row
	Rotate(x T, r *Rope, pos []int32, heads, headDim int) T // x [tokens, heads*headDim]
	RelativeBias(table T, r Relative, b Batch) T            // table [buckets, heads] -> [heads*queries, keys], for Attention.Bias
	Attend(q, k, v T, a Attention[T], b Batch) T            // q [tokens, heads*headDim], k and v [tokens, kvHeads*headDim or valueDim]
	// AttendLatent takes queries without positions [tokens, heads*nopeDim], if there are any, rotary queries [tokens, heads*ropeDim], latents
	// [tokens, rank] and rotary keys [tokens, ropeDim], and returns [tokens, heads*valueDim].
	AttendLatent(nope, rope, latent, key T, a Latent[T], b Batch) T
	Activate(x T, act activation.Func) T    // elementwise
	Gate(gate, up T, act activation.Func) T // act(gate) * up
	Add(x, y T) T                           // elementwise
	Scale(x T, s float32) T                 // s·x
	Clip(x T, limit float32) T              // elementwise, to ±limit
}

// GroupedLinear is implemented by engines that can apply several linear layers to the same rows faster than one after
// another.
type GroupedLinear[T any] interface {
	Linears(x T, ws []Linear[T]) []T // valid until the next call
}

// Linears applies several linear layers to the same rows.
func Linears[T any](e Ops[T], x T, ws []Linear[T]) []T {
	if j, ok := e.(GroupedLinear[T]); ok {
		return j.Linears(x, ws)
	}
	ys := make([]T, len(ws))
	for i, w := range ws {
		ys[i] = e.Linear(x, w)
	}
	return ys
}

// GatedLinear is implemented by engines that can apply two linear layers and a gate faster together.
type GatedLinear[T any] interface {
	// LinearGate is Gate of the results of two linear layers.
	LinearGate(x T, gate, up Linear[T], act activation.Func) T
}

// LinearGate applies two linear layers to the same rows, and gates the second's result with the first's; see [Ops].Gate.
func LinearGate[T any](e Ops[T], x T, ws []Linear[T], act activation.Func) T {
	if g, ok := e.(GatedLinear[T]); ok {
		return g.LinearGate(x, ws[0], ws[1], act)
	}
	in := Linears(e, x, ws)
	return e.Gate(in[0], in[1], act)
}

// PairRotator is implemented by engines that can rotate queries and keys faster together.
type PairRotator[T any] interface {
	// RotatePair rotates q [tokens, heads*headDim] and k [tokens, kvHeads*headDim].
	RotatePair(q, k T, r *Rope, pos []int32, heads, kvHeads, headDim int) (T, T)
}

// RotatePair rotates queries and keys; see [Ops].Rotate.
func RotatePair[T any](e Ops[T], q, k T, r *Rope, pos []int32, heads, kvHeads, headDim int) (T, T) {
	if p, ok := e.(PairRotator[T]); ok {
		return p.RotatePair(q, k, r, pos, heads, kvHeads, headDim)
	}
	return e.Rotate(q, r, pos, heads, headDim), e.Rotate(k, r, pos, kvHeads, headDim)
}

// Recompute says what a training step computes twice, to keep less for the backward pass.
type Recompute uint8

// What is computed twice.
const (
	RecomputeNone      Recompute = iota
	RecomputeAttention           // self-attention, from the projections of its input on
	RecomputeLayer               // whole layers
)

// Recomputer is implemented by engines that keep results for a backward pass.
type Recomputer[T any] interface {
	// Recompute returns f(in). What f computes on the way is not kept but computed again in the backward pass (Chen et al.,
	// arXiv 1604.06174). f must read no other results of the engine than in.
	Recompute(f func(in []T) T, in ...T) T
}
