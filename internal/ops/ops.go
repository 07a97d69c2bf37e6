// Package ops is what a forward pass asks of an engine. A model is written once against Ops; each engine under
// internal/engine computes the same operations over its own tensor type: one records an autograd graph, one keeps a KV
// cache and allocates nothing.
package ops

import "gqa/internal/activation"

// Batch is the tokens that one forward pass reads: Seqs sequences of Len tokens each, sequence by sequence.
type Batch struct {
	IDs  []int32 // [Seqs*Len] token ids
	Pos  []int32 // [Seqs*Len] positions, from 0 at a sequence's start
	Seqs int
	Len  int
	// Lens, if not nil, says how many tokens of each sequence are not padding [Seqs]. Where every token sees all others,
	// padding is not seen; where none sees what follows it, padding at the end makes no difference.
	Lens []int
	// Types, if not nil, are the token types [Seqs*Len]; nil: all 0.
	Types []int32
	// Source is what an encoder reads before a decoder reads this batch: as many sequences. nil: there is no encoder, or
	// the engine's cache holds what it said.
	Source *Batch
}

// NewBatch lays out sequences of equal length, each from position 0.
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

// Linear is a weight W [out, in] with its bias [out], where HasBias.
type Linear[T any] struct {
	W, Bias T
	HasBias bool
}

// Norm is a normalisation of rows, or of each piece of Dim numbers of a row: root-mean-square, or, with Layer, mean and
// variance. What comes out is multiplied with W + Offset and moved by Bias.
type Norm[T any] struct {
	W, Bias       T   // [dim], or [pieces, dim]: each piece of a row has its own
	Dim           int // 0: whole rows
	HasW, HasBias bool
	Layer         bool
	Offset        float32 // 1 in Gemma
	Eps           float32
}

// Rope is rotary position embedding: the planes' inverse frequencies over the first 2*len(InvFreq) dims of a head. Planes
// are (i, i+len(InvFreq)), or (2i, 2i+1) if Interleaved. Engines keep the cosines and sines of a Rope by its address.
type Rope struct {
	InvFreq     []float64
	Interleaved bool
	Scale       float64 // of the cosines and sines
	Positions   int     // as far as the model was trained; an engine may go further
	Long        *Rope   // what sequences longer than LongFrom take instead; nil: nothing
	LongFrom    int
}

// For is the embedding that sequences with those positions take.
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

// Attention is one site's grouped-query attention: query head h reads KV head h / (Heads/KVHeads).
type Attention[T any] struct {
	Site                    int // the site's number among its kind: which cache it has
	Heads, KVHeads, HeadDim int
	Scale                   float32
	Causal                  bool
	Window                  int  // with Causal: how many tokens a token sees, itself included; 0: all before it
	Cross                   bool // keys and values are of Batch.Source
	Bias                    T    // [Heads*queries, keys], added to the scaled scores of every sequence
	HasBias                 bool
	Slopes                  []float32 // [Heads] ALiBi's, with which scaled scores fall by the key's distance; nil: none
	CoarseSlopes            float32   // if not 0, what biases of Slopes are multiplied with, after rounding to bfloat16
}

// Relative says in which of Buckets a distance between query and key falls: T5's learned position bias.
type Relative struct {
	Buckets     int
	MaxDistance int  // from here on, distances share a bucket
	BothWays    bool // keys ahead of a query have buckets of their own
}

// Ops is one engine's operations. Rows of a T are the batch's tokens: [tokens, dim].
//
// An engine may write a result over an operand that a decoder has no more use for: Rotate, Activate and Gate over their
// first, as Scale and Clip; and after Add(x, y), which ends a residual block, neither x nor anything computed since x may be used again.
type Ops[T any] interface {
	Embed(table T, ids []int32, first int) T                // rows first+ids of table [n, dim] -> [tokens, dim]
	Linear(x T, w Linear[T]) T                              // x·Wᵀ (+ bias): [tokens, in] -> [tokens, out]
	Norm(x T, n Norm[T]) T                                  // over each row
	Rotate(x T, r *Rope, pos []int32, heads, headDim int) T // x [tokens, heads*headDim]
	RelativeBias(table T, r Relative, b Batch) T            // table [buckets, heads] -> [heads*queries, keys], for Attention.Bias
	Attend(q, k, v T, a Attention[T], b Batch) T            // q [tokens, heads*headDim], k and v [tokens, kvHeads*headDim]
	Activate(x T, act activation.Func) T                    // elementwise
	Gate(gate, up T, act activation.Func) T                 // act(gate) * up
	Add(x, y T) T                                           // elementwise
	Scale(x T, s float32) T                                 // s·x
	Clip(x T, limit float32) T                              // elementwise, to ±limit
}

// GroupedLinear is an engine that applies several linear layers to the same rows faster than one after another.
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
