package golden_test

import (
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/golden"
)

// TestToLatent: latent attention with room for all values and for every rotary plane computes the same, in every family that can have
// it; the others are refused with a reason.
func TestToLatent(t *testing.T) {
	converted := 0
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			a := src.Arch
			if why := a.CheckLatent(); why != nil {
				_, err := convert.NewPlan(src, convert.Options{Goal: convert.LatentAttention(convert.LatentGoal{Rank: 4, RopeDim: 2}), Target: convert.MLA})
				if err == nil {
					t.Fatalf("is converted, although %v", why)
				}
				t.Skip(err)
			}
			converted++
			freqs, _ := a.LayerInvFreq(0)
			free := a.KVHeads * (a.HeadDim - 2*len(freqs))
			o := convert.Options{Target: convert.MLA, Goal: convert.LatentAttention(convert.LatentGoal{
				Rank: min(a.KVHeads*a.HeadDim+free, a.Dim+1), RopeDim: 2 * len(freqs) * a.KVHeads,
			})}
			dir := convertTo(t, c.Dir, o)
			if to := golden.Open(t, dir).Arch; to.Attention != configs.LatentAttention {
				t.Errorf("the attention is %s", to.Attention)
			}
			m := mergeCase{c.Name, c.Dir, c.Batch()}
			if off := apart(logits(t, m, dir), logits(t, m, c.Dir)); !(off <= 1e-4) {
				t.Errorf("logits are %g away from the source's", off)
			}
		})
	}
	if converted < 15 {
		t.Errorf("only %d cases were converted", converted)
	}
}
