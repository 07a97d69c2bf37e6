package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
	"gqa/internal/weights"
)

// Layer describes what a merge did to one layer's attention.
type Layer struct {
	Site   configs.Site  `json:"site"`
	Layer  int           `json:"layer"`
	Groups []MergedGroup `json:"groups,omitempty"`
	Latent *LatentLayer  `json:"latent,omitempty"`
	// Readout and Fit describe how the layer was fitted to the original's output; nil if it was not.
	Readout *LayerFit `json:"readout,omitempty"`
	Fit     *LayerFit `json:"refine,omitempty"`
	// States describes a refinement of all layers at once: relative squared errors of the layer's output states, on
	// held-out text. It is nil for an encoder before a decoder, because its error appears in the decoder's layers.
	States *LayerFit `json:"states,omitempty"`
}

// LayerFit describes how a layer's attention was fitted to its target: relative squared errors of its output, for the
// readout (o by least squares) on the calibration text, for a refinement on the held-out part of it.
type LayerFit struct {
	Before float64 `json:"error_before"`
	After  float64 `json:"error_after"`
	Steps  int     `json:"steps,omitempty"`
	Rate   float64 `json:"learning_rate,omitempty"` // relative to each weight's root mean square
}

// MergedGroup describes one group of a layer.
type MergedGroup struct {
	Members []int     `json:"members"` // KV heads of the source
	K       MergedFit `json:"k"`
	V       MergedFit `json:"v"`
}

// MergedFit measures how well the shared head represents its members; see merge.Fit.
type MergedFit struct {
	Cosine float64 `json:"cosine"`
	Energy float64 `json:"energy_kept"`
	Scale  float64 `json:"scale"`
	Error  float64 `json:"error"`
}

// MergeWork returns the maximum number of steps that a run reports before it writes anything: the attention modules that
// are merged, those that are examined first because several must have one order of heads, and the steps of fitting all of
// them together.
func (p *Plan) MergeWork() int {
	n := p.Refine
	if !p.fitsTogether() {
		n *= len(p.modules)
	}
	for _, m := range p.modules {
		n++
		if p.ordered(m) || p.layerRanks() {
			n++
		}
	}
	return n
}

// refineBytes is the largest size of a model, in f32, for which BySize fits all layers at once.
const refineBytes = 1 << 30

// fitsTogether reports whether all layers are refined at once rather than one after the other.
func (p *Plan) fitsTogether() bool {
	if p.Refine == 0 || len(p.modules) == 0 {
		return false
	}
	n, err := weights.Parameters(p.Source.Arch)
	return p.RefineBy == ByModel || p.RefineBy == BySize && err == nil && 4*n <= refineBytes
}

// mergedModules lists the attention modules of a that a merge computes, in the order of the forward pass.
func (o Options) mergedModules(a *configs.Arch, sites []configs.Site) (all []module) {
	if !o.Merges() {
		return nil
	}
	if o.Goal.latent != nil {
		return latentModules(a)
	}
	for _, s := range sites {
		if a.SiteKVHeads(s) != o.Goal.Groups() {
			all = append(all, modulesOf(a, s)...)
		}
	}
	slices.SortStableFunc(all, func(a, b module) int { // encoder first, self-attention before cross-attention
		return cmp.Or(strings.Compare(b.prefix, a.prefix), a.layer-b.layer)
	})
	return all
}

// ordered reports whether the module's order of heads must be chosen, and must be the same in all layers of its stack.
func (p *Plan) ordered(m module) bool { return p.Grouping == Similar && m.sharesTable() }

// keep stores a module's weights.
func (r *run) keep(m module, changed calibrate.Weights) error {
	for name, values := range changed {
		if !blas.Finite(values) {
			return at(m, "fit", fmt.Errorf("%s is not finite: activations or weights are too large", name))
		}
		if err := r.store.Put(m.prefix+name, values); err != nil {
			return err
		}
	}
	return nil
}

// report describes the result for each group.
func report(groups []merge.Group) []MergedGroup {
	fit := func(f merge.Fit) MergedFit { return MergedFit(f) }
	all := make([]MergedGroup, len(groups))
	for i, g := range groups {
		all[i] = MergedGroup{Members: g.Members, K: fit(g.K), V: fit(g.V)}
	}
	return all
}
