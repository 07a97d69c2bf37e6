package convert

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
	"gqa/internal/weights"
)

// Layer is what a merge did to one layer's attention.
type Layer struct {
	Site   configs.Site  `json:"site"`
	Layer  int           `json:"layer"`
	Groups []MergedGroup `json:"groups"`
	// Readout and Fit say what fitting the layer to the original's output gained; nil where it was not.
	Readout *LayerFit `json:"readout,omitempty"`
	Fit     *LayerFit `json:"refine,omitempty"`
	// States says what a refinement of all layers at once gained: relative squared errors of what the layer leaves in the residual
	// stream, on text that is held out. It is nil of an encoder before a decoder, whose error shows in the decoder's layers.
	States *LayerFit `json:"states,omitempty"`
}

// LayerFit is a fit of a layer's attention to what it should give: relative squared errors of its output, for the readout (o
// by least squares) on the calibration text, for a refinement on the part of it that is held out.
type LayerFit struct {
	Before float64 `json:"error_before"`
	After  float64 `json:"error_after"`
	Steps  int     `json:"steps,omitempty"`
	Rate   float64 `json:"learning_rate,omitempty"` // relative to each weight's root mean square
}

// MergedGroup is one group of a layer.
type MergedGroup struct {
	Members []int     `json:"members"` // KV heads of the source
	K       MergedFit `json:"k"`
	V       MergedFit `json:"v"`
}

// MergedFit says how well the shared head stands for its members; see merge.Fit.
type MergedFit struct {
	Cosine float64 `json:"cosine"`
	Energy float64 `json:"energy_kept"`
	Scale  float64 `json:"scale"`
	Error  float64 `json:"error"`
}

// Merges says whether what reads keys and values changes with them, so that a layer's q, k, v and o are computed together.
func (o Options) Merges() bool {
	return o.Method == Align || o.Method == Calibrated || o.Grouping == Similar || o.Refine > 0
}

// asked names the flags that make it so.
func (o Options) asked() string {
	var flags []string
	if o.Method == Align || o.Method == Calibrated {
		flags = append(flags, "--method "+string(o.Method))
	}
	if o.Grouping == Similar {
		flags = append(flags, "--grouping "+string(o.Grouping))
	}
	if o.Refine > 0 {
		flags = append(flags, "--refine")
	}
	return strings.Join(flags, " and ")
}

// checkMerge refuses what a merge of a's heads cannot do.
func (o Options) checkMerge(a *configs.Arch) error {
	switch {
	case o.Merges() && a.LayerKVHeads != nil:
		return fmt.Errorf("the checkpoint's layers have KV heads of their own (%s), which goes with --method mean, first or random alone; leave out %s",
			list(a.LayerKVHeads), o.asked())
	case o.Refine < 0:
		return fmt.Errorf("refine is %d, want the number of steps to fit attention in, such as 600, or 0", o.Refine)
	case o.Calibration != nil && !o.Merges():
		return fmt.Errorf("method %s looks at no text; leave --calibration out, or choose method align or calibrated, grouping similar, or --refine", o.Method)
	case o.Refine > 0 && o.Calibration == nil:
		return errors.New("refine fits attention to what it does with text, and there is none; give --calibration FILE, text like that which the model was trained on")
	case o.Method == Random && o.Merges():
		return errors.New("method random uses none of the heads, so there is nothing for grouping similar or refine to go by; choose another method")
	}
	return nil
}

// MergeWork is how many steps OnMerge is told of at most, before anything is written: attention modules that are merged, those that
// are looked at before, where several must have one order of heads, and the steps that fit all of them together.
func (p *Plan) MergeWork() int {
	n := p.Refine
	if !p.fitsTogether() {
		n *= len(p.modules())
	}
	for _, m := range p.modules() {
		n++
		if p.ordered(m) {
			n++
		}
	}
	return n
}

// RefineBy is what a refinement fits at once.
type RefineBy string

// The values of RefineBy.
const (
	ByLayer RefineBy = "layer" // one layer after the other, in the memory of one
	ByModel RefineBy = "model" // all layers, with both models in memory
	BySize  RefineBy = "size"  // all layers where the model's weights take a gigabyte in f32 at most
)

// RefineChoices lists the values of RefineBy.
var RefineChoices = []string{string(BySize), string(ByModel), string(ByLayer)}

// refineBytes is the most that BySize has the weights of a model take, in f32, for all layers at once.
const refineBytes = 1 << 30

// fitsTogether says whether all layers are refined at once; else it is one after the other.
func (p *Plan) fitsTogether() bool {
	if p.Refine == 0 || len(p.modules()) == 0 {
		return false
	}
	n, err := weights.Parameters(p.Source.Arch)
	return p.RefineBy == ByModel || p.RefineBy == BySize && err == nil && 4*n <= refineBytes
}

// modules are the attention modules that a merge computes, in the order of a forward pass.
func (p *Plan) modules() (all []module) {
	if !p.Merges() {
		return nil
	}
	for _, s := range p.sites {
		if p.Source.Arch.SiteKVHeads(s) != p.Groups {
			all = append(all, modulesOf(p.Source.Arch, s)...)
		}
	}
	slices.SortStableFunc(all, func(a, b module) int { // an encoder's first, self-attention before cross-attention
		return cmp.Or(strings.Compare(b.prefix, a.prefix), a.layer-b.layer)
	})
	return all
}

// ordered says whether the module's order of heads must be that of all layers of its stack, and is to be chosen.
func (p *Plan) ordered(m module) bool { return p.Grouping == Similar && m.sharesTable() }

// keep stores a module's weights as the result has them.
func (p *Plan) keep(m module, changed calibrate.Weights) error {
	var shared []string
	for _, role := range []configs.Role{m.k, m.v, m.kNorm} {
		shared = append(shared, configs.ParamName(role, m.layer, false), configs.ParamName(role, m.layer, true))
	}
	for name, values := range changed {
		if slices.Contains(shared, name) {
			values = repeat(values, p.Groups, p.Arch.SiteKVHeads(m.site))
		}
		if !blas.Finite(values) {
			return p.named(m, "fit", fmt.Errorf("%s is not finite: activations or weights are too large", name))
		}
		if err := p.merged.Put(m.prefix+name, values); err != nil {
			return err
		}
	}
	return nil
}

// mergedTensor puts together a tensor of the result from weights that the merge computed.
func (p *Plan) mergedTensor(t pooledTensor) ([]float32, error) {
	result := make([]float32, t.size)
	for _, w := range t.to {
		values, err := p.mergedWeight(w)
		if err != nil {
			return nil, err
		}
		w.Put(result, values)
	}
	return result, nil
}

// mergedWeight is one weight of the result that the merge computed.
func (p *Plan) mergedWeight(w configs.Param) ([]float32, error) {
	values, ok, err := p.merged.Get(w.Name)
	if err == nil && (!ok || len(values) != w.Size()) {
		err = fmt.Errorf("tensor %s: the merge gave %d values of %s, want %v", w.Tensor, len(values), w.Name, w.Shape)
	}
	return values, err
}

func report(groups []merge.Group) []MergedGroup {
	fit := func(f merge.Fit) MergedFit { return MergedFit(f) }
	all := make([]MergedGroup, len(groups))
	for i, g := range groups {
		all[i] = MergedGroup{Members: g.Members, K: fit(g.K), V: fit(g.V)}
	}
	return all
}
