package configs

import (
	"cmp"
	"math"
	"slices"
)

// KVRotaryDims returns the number of rotary dims of all KV heads of a layer; if layers differ, the least.
func (a *Arch) KVRotaryDims() int {
	most := math.MaxInt
	for i := range a.Layers {
		freqs, _ := a.LayerInvFreq(i)
		most = min(most, 2*len(freqs)*a.LayerKV(i))
	}
	return most
}

// WidestLatent returns the largest useful width of a latent: that of all keys and values of a layer, or that of its inputs and a constant,
// which biases may add.
func (a *Arch) WidestLatent() int { return min(2*a.LayerKV(0)*a.HeadDim, a.Dim+1) }

// LatentSizes returns the widths of a latent and of a rotary key that have so many numbers together: a quarter is rotary, or all rotary
// dims if these are fewer.
func (a *Arch) LatentSizes(numbers int) (rank, ropeDim int) {
	ropeDim = min(max(2, numbers/8*2), a.KVRotaryDims())
	return numbers - ropeDim, ropeDim
}

// Sizes of the latent and of the rotary key that the kernels of other software expect; see [Arch.LatentChoices].
const (
	KernelRank    = 512
	KernelRopeDim = 64
)

// LatentChoices returns sizes of latent attention that a's attention can become, the largest first: those with the bytes of 1/2, 1/4, 1/8
// and 1/16 of a's KV cache, and, if that saves something, those of FlashMLA's kernels. Only Rank and RopeDim are set. It returns nil if the
// attention cannot become latent.
func (a *Arch) LatentChoices() (choices []Latent) {
	if a.CheckLatent() != nil {
		return nil
	}
	add := func(rank, ropeDim int) {
		fits := rank >= 1 && rank <= a.WidestLatent() && ropeDim >= 2 && ropeDim <= a.KVRotaryDims()
		same := func(l Latent) bool { return l.Rank == rank && l.RopeDim == ropeDim }
		if fits && !slices.ContainsFunc(choices, same) {
			choices = append(choices, Latent{Rank: rank, RopeDim: ropeDim})
		}
	}
	all := 0
	for i := range a.Layers {
		rows, width := a.CacheRows(i)
		all += rows * width
	}
	for share := 2; share <= 16; share *= 2 {
		add(a.LatentSizes(all / a.Layers / share))
	}
	if KernelRank+KernelRopeDim < all/a.Layers {
		add(KernelRank, KernelRopeDim)
	}
	slices.SortStableFunc(choices, func(a, b Latent) int { return cmp.Compare(b.CacheDim(), a.CacheDim()) })
	return choices
}
