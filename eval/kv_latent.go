package eval

import (
	"cmp"
	"fmt"
	"slices"

	"gqa/configs"
)

// latent stands for the number of groups of multi-head latent attention (DeepSeek-AI, arXiv 2405.04434), which caches a vector of
// Shape.KVRank and a rotated key of Shape.RopeDim numbers for all heads.
const latent = 0

// setLatents sets the sizes of latent attention that the attention of a can be converted to.
func (s *Shape) setLatents(a *configs.Arch) {
	for _, l := range a.LatentChoices() {
		s.latents = append(s.latents, [2]int{l.Rank, l.RopeDim})
	}
}

// conversions returns the shapes of a model's conversions to latent attention that o can be for, the largest cache first.
func (s Shape) conversions(o KVOptions) (all []Shape) {
	for _, sizes := range s.latents {
		c := s
		c.KVRank, c.RopeDim, c.converted = sizes[0], sizes[1], true
		if c.checkOptions(o) == nil {
			all = append(all, c)
		}
	}
	return all
}

// nopeDim returns the width of a head's keys without positions in a conversion.
func (s Shape) nopeDim() int { return min(s.HeadDim, s.KVRank) }

// latentParams returns the number of weights of latent attention in a layer: those of queries, of the latent and the rotary key, of keys
// and values, and of the output.
func (s Shape) latentParams() int {
	perInput := s.Heads*(s.nopeDim()+s.RopeDim) + s.KVRank + s.RopeDim + s.Heads*s.HeadDim
	return perInput*s.Dim + s.Heads*(s.nopeDim()+s.HeadDim)*s.KVRank
}

// bySize sorts rows of the same shape by the size of their caches, the largest first. Groups come before latent attention.
func bySize[R any](rows []R, bytes func(R) int64) {
	slices.SortStableFunc(rows, func(a, b R) int { return cmp.Compare(bytes(b), bytes(a)) })
}

// latentText names latent attention of these sizes.
func latentText(rank, ropeDim int) string { return fmt.Sprintf("MLA, %d + %d", rank, ropeDim) }
