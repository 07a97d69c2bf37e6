package golden_test

import (
	"path/filepath"
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/golden"
	"gqa/internal/ops"
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

// TestToDeepSeek: with one KV head, transformers' class has room for all its planes, and a bias makes the norm of the latent nearly
// harmless.
func TestToDeepSeek(t *testing.T) {
	dir := golden.Random(t, `{"model_type": "llama", "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
		"num_key_value_heads": 1, "intermediate_size": 40, "max_position_embeddings": 64, "rope_theta": 100}`)
	m := mergeCase{"llama", dir, ops.NewBatch(golden.Windows(4, 2, 21, 61)...)}
	lost := func(g convert.LatentGoal) float64 {
		to := convertTo(t, dir, convert.Options{Target: convert.DeepSeek, Goal: convert.LatentAttention(g)})
		if a := golden.Open(t, to).Arch; a.Family.Name != "deepseek_v3" || a.Latent.Rank != g.Rank {
			t.Errorf("is %s with a latent of %d", a.Family.Name, a.Latent.Rank)
		}
		return apart(logits(t, m, to), logits(t, m, dir))
	}
	bias, norm := lost(convert.LatentGoal{Rank: 9, RopeDim: 8, Bias: true}), lost(convert.LatentGoal{Rank: 9, RopeDim: 8})
	if bias > 0.05 || norm < 4*bias {
		t.Errorf("logits are %g away from the source's with a bias, %g without", bias, norm)
	}
}

// TestToLatentFits: the output is fitted to the original's on a text, and so is the whole attention, of all layers or one by one.
func TestToLatentFits(t *testing.T) {
	c := golden.Named(t, "llama")
	m := mergeCase{c.Name, c.Dir, c.Batch()}
	src := golden.Open(t, c.Dir)
	for _, o := range []convert.Options{
		{Target: convert.MLA},
		{Target: convert.MLA, Refine: 8, RefineBy: convert.ByModel},
		{Target: convert.MLA, Refine: 8, RefineBy: convert.ByLayer},
		{Target: convert.DeepSeek, Refine: 8},
	} {
		o.Goal, o.Calibration = convert.LatentAttention(convert.LatentGoal{Rank: 12, RopeDim: 4}), m.data(src.Arch)
		plan, err := convert.NewPlan(src, o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := plan.Run(t.Context(), filepath.Join(t.TempDir(), "out"), convert.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range s.Layers {
			if l.Latent == nil || l.Readout == nil || !(l.Readout.After < l.Readout.Before) {
				t.Errorf("%s, layer %d: latent %+v, readout %+v", o.Target, l.Layer, l.Latent, l.Readout)
			}
			if fit := l.Fit; o.RefineBy == convert.ByLayer && (fit == nil || !(fit.After <= fit.Before)) {
				t.Errorf("%s, layer %d: fit %+v", o.Target, l.Layer, fit)
			}
		}
		if fit := s.Together; o.Refine > 0 && o.RefineBy != convert.ByLayer && (fit == nil || !(fit.After <= fit.Before)) {
			t.Errorf("%s: all layers %+v", o.Target, fit)
		}
	}
}
