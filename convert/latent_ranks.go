package convert

import (
	"context"

	"gqa/convert/latent"
)

// layerRanks reports whether the latents' widths differ from layer to layer: they are chosen within the bytes of the goal, by a pass of the
// text through the model, and only for the layout that can hold them. Latents of fewer numbers than a head has are not divided further.
func (p *Plan) layerRanks() bool {
	l := p.Goal.latent
	return l != nil && l.Bytes > 0 && l.divided && p.Target == MLA && p.Calibration != nil && len(p.modules) > 1 &&
		l.nope(p.Source.Arch) == p.Source.Arch.HeadDim
}

// Ranks of a layer are at least this share of the equal one, and at most this multiple.
const (
	leastRank = 4
	mostRank  = 4
)

// layerEnergy is what a number of a layer's latent is worth: with equal ranks, the layer changes the states behind it by the relative
// squared error behind, and its keys and values lose the energy lost.
type layerEnergy struct {
	each         []float64 // that each number keeps
	behind, lost float64
}

// worth returns how much number n of the layer's latent reduces the error behind the layer.
func (e layerEnergy) worth(n int) float64 {
	if n >= len(e.each) || !(e.lost > 0) {
		return 0
	}
	return e.behind * e.each[n] / e.lost
}

// chooseRanks chooses the latent's width in each layer.
func (r *run) chooseRanks(ctx context.Context) error {
	if !r.layerRanks() {
		return nil
	}
	if err := r.ownLatent(); err != nil { // whose frequencies are those of the equal ranks meanwhile
		return err
	}
	g, err := r.newMerging(ctx, false)
	if err != nil {
		return err
	}
	defer g.walk.Close()
	g.walk.KeepBefore()
	var layers []layerEnergy
	for _, m := range r.modules {
		e, err := g.energy(ctx, m)
		if err != nil {
			return err
		}
		layers = append(layers, e)
		r.step()
	}
	l := *r.Goal.latent
	l.ranks = divide(l.Rank, layers)
	a, config, err := l.arch(r.Source, r.Target)
	if err != nil {
		return err
	}
	plan := *r.Plan
	r.Plan, plan.Goal.latent = &plan, &l
	return r.setLatent(a, config)
}

// energy converts a module with the equal rank, and measures what that costs.
func (g *merging) energy(ctx context.Context, m module) (e layerEnergy, err error) {
	a, in, err := g.observe(ctx, m)
	if err != nil {
		return e, err
	}
	equal, o := g.Goal.latent.Rank, g.latentOptions(m)
	each, total, err := latent.Energies(ctx, a, in.Query, o, min(mostRank*equal, g.Source.Arch.WidestLatent()))
	if err != nil {
		return e, at(m, string(MethodLatent), err)
	}
	for _, x := range each[:min(equal, len(each))] {
		total -= x
	}
	e.each, e.lost = each, max(total, 0)
	l, _, err := latent.Convert(ctx, a, in.Query, o)
	if err != nil {
		return e, at(m, string(MethodLatent), err)
	}
	copy(g.result.Arch.At(m.layer).Latent.InvFreq, l.InvFreq)
	changed := latentWeights(m.layer, l)
	g.complete(m, changed)
	if _, _, err = g.walk.Readout(ctx, m.layer, changed); err != nil { // which changes a's output, too
		return e, at(m, "fit", err)
	}
	if e.behind, err = g.walk.Behind(ctx, m.layer, changed); err != nil {
		return e, at(m, "calibration", err)
	}
	return e, nil
}

// divide divides the numbers of equal ranks among the layers: each goes where it is worth most.
func divide(equal int, layers []layerEnergy) []int {
	ranks, left := make([]int, len(layers)), 0
	for i := range ranks {
		ranks[i] = max(1, equal/leastRank)
		left += equal - ranks[i]
	}
	for ; left > 0; left-- {
		best := -1
		for i, e := range layers {
			if ranks[i] < len(e.each) && (best < 0 || e.worth(ranks[i]) > layers[best].worth(ranks[best])) {
				best = i
			}
		}
		if best < 0 {
			break // every layer has all that it can use
		}
		ranks[best]++
	}
	return ranks
}

// latentOptions returns what package latent needs to know about a module.
func (g *merging) latentOptions(of module) latent.Options {
	to := g.result.Arch.At(of.layer)
	o := g.Goal.latent.options(g.Source.Arch, of.layer)
	o.Rank, o.Planes, o.Nope = to.Latent.Rank, to.Latent.RopeDim/2, to.Latent.NopeDim
	if g.Target == DeepSeek {
		o.Fixed, o.NewRopeScale = to.Rope.InvFreq(), to.Rope.Scale()
		o.NewScale, o.Norm, o.Bias = stockScale(to), true, g.Goal.latent.Bias
	}
	return o
}
