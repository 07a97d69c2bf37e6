package convert

import (
	"context"
	"slices"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/latent"
	"gqa/convert/merge"
)

// LatentLayer describes the latent attention of one layer. The errors are relative squared errors of the source's keys and values over
// the inputs, weighted by their effect on the output.
type LatentLayer struct {
	Rank        int     `json:"kv_rank"`
	RopeDim     int     `json:"rope_dim"`
	KeysError   float64 `json:"keys_error"`
	ValuesError float64 `json:"values_error"`
}

// latentModules lists the attention modules of a, each with its own number of KV heads.
func latentModules(a *configs.Arch) []module {
	all := modulesOf(a, configs.DecoderSelf)
	for i := range all {
		all[i].arch = a.At(i)
	}
	return all
}

// ownLatent gives the run a plan of its own, in whose architecture it enters the frequencies that it finds.
func (r *run) ownLatent() error {
	if r.Goal.latent == nil {
		return nil
	}
	plan, a := *r.Plan, *r.result.Arch
	a.LatentLayers = slices.Clone(a.LatentLayers)
	for i := range a.LatentLayers {
		a.LatentLayers[i].InvFreq = make([]float64, len(a.LatentLayers[i].InvFreq))
	}
	r.Plan = &plan
	return r.setLatent(&a, r.result.Config)
}

// settleLatent lays the result out again once its frequencies are known.
func (r *run) settleLatent() error {
	if r.Goal.latent == nil {
		return nil
	}
	return r.setLatent(r.result.Arch, r.result.Config)
}

// latent converts the attention a of a module to latent attention. m is the moment of its inputs.
func (g *merging) latent(ctx context.Context, of module, a *merge.Attention, m *merge.Moment, last bool) error {
	l, fit, err := latent.Convert(ctx, a, m, g.latentOptions(of))
	if err != nil {
		return at(of, string(MethodLatent), err)
	}
	copy(g.result.Arch.At(of.layer).Latent.InvFreq, l.InvFreq)
	layer := Layer{
		Site: of.site, Layer: of.layer,
		Latent: &LatentLayer{Rank: l.Rank, RopeDim: l.Rope, KeysError: fit.Keys, ValuesError: fit.Values},
	}
	changed := latentWeights(of.layer, l)
	g.complete(of, changed)
	if g.walk != nil {
		if err := g.fit(ctx, &layer, changed, g.walk); err != nil {
			return at(of, "fit", err)
		}
	}
	g.layers = append(g.layers, layer)
	return g.finish(ctx, of, changed, last)
}

// complete adds the weights of the result's attention that the conversion leaves open: norms without effect, and biases of zero.
func (g *merging) complete(of module, changed calibrate.Weights) {
	for _, w := range g.result.Weights {
		if _, there := changed[w.Name]; there || w.Layer != of.layer || !slices.Contains(latentRoles, w.Role) {
			continue
		}
		values := make([]float32, w.Size())
		if w.Role == configs.KVANorm {
			for i := range values {
				values[i] = 1
			}
		}
		changed[w.Name] = values
	}
}

// latentWeights returns the weights of a latent attention by their names in the forward pass.
func latentWeights(layer int, l *latent.Attention) calibrate.Weights {
	all := calibrate.Weights{}
	for role, w := range map[configs.Role]merge.Linear{
		configs.QA: l.QueryDown, configs.QNope: l.QNope, configs.QRope: l.QRope, configs.KRope: l.KRope, configs.LatentKV: l.Latent,
		configs.KeyUp: l.KeyUp, configs.ValueUp: l.ValueUp, configs.O: l.O,
	} {
		if len(w.W) > 0 {
			all[configs.ParamName(role, layer, false)] = w.W
		}
		if w.Bias != nil {
			all[configs.ParamName(role, layer, true)] = w.Bias
		}
	}
	return all
}
