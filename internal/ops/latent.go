package ops

// Latent is the latent attention of one site (DeepSeek-V2, arXiv 2405.04434, section 2.1). Keys and values of every head are linear in
// a latent of Rank numbers, but for RopeDim rotary numbers of each key, which all heads share:
//
//	key of head h   = KeyUp_h·latent, rotary key     [NopeDim + RopeDim]
//	value of head h = ValueUp_h·latent               [ValueDim]
//
// In the expanded form these are computed. In the absorbed form a head's query is multiplied by KeyUp_h and attends to the latents
// themselves, which are keys and values of all heads, and ValueUp_h is applied to the result: a cache holds latents and rotary keys
// alone, and they are read once for all heads.
type Latent[T any] struct {
	Attention[T]           // HeadDim is NopeDim + RopeDim, and KVHeads is Heads
	NopeDim, RopeDim, Rank int
	KeyUp                  Linear[T] // [Heads*NopeDim, Rank]; none if NopeDim is 0
	ValueUp                Linear[T] // [Heads*ValueDim, Rank]
	Form                   LatentForm
}

// LatentForm is the way in which latent attention is computed.
type LatentForm uint8

// Forms of latent attention.
const (
	LatentFastest  LatentForm = iota // the form that takes fewer operations
	LatentExpanded                   // for tokens that are in no cache
	LatentAbsorbed
)

// Absorbs reports whether tokens attend to themselves, without a cache, in the absorbed form.
func (a Latent[T]) Absorbs() bool {
	if a.Form != LatentFastest {
		return a.Form == LatentAbsorbed
	}
	// Both forms multiply by KeyUp and ValueUp once for each token. Then, for each query and key it sees:
	return 2*a.Rank+a.RopeDim < a.HeadDim+a.ValueDim
}

// Queries returns a as the attention of one KV head to latents: its keys are latents, each followed by its rotary key, and its values
// are the latents.
func (a Latent[T]) Queries() Attention[T] {
	s := a.Attention
	s.KVHeads, s.HeadDim, s.ValueDim = 1, a.Rank+a.RopeDim, a.Rank
	return s
}
