package convert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/merge"
	"gqa/convert/spill"
)

// Layer is what a merge did to one layer's attention.
type Layer struct {
	Site   configs.Site  `json:"site"`
	Layer  int           `json:"layer"`
	Groups []MergedGroup `json:"groups"`
	// Readout and Fit say what fitting the layer to the original's output gained; nil where it was not.
	Readout *LayerFit `json:"readout,omitempty"`
	Fit     *LayerFit `json:"refine,omitempty"`
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

// merges says whether what reads keys and values changes with them, so that a layer's q, k, v and o are computed together.
func (o Options) merges() bool {
	return o.Method == Align || o.Method == Calibrated || o.Grouping == Similar || o.Refine > 0
}

// checkMerge refuses what a merge of a's heads cannot do.
func (o Options) checkMerge(a *configs.Arch) error {
	switch {
	case o.Refine < 0:
		return fmt.Errorf("refine is %d, want the number of steps to fit each layer, such as 300, or 0", o.Refine)
	case o.Calibration != nil && !o.merges():
		return fmt.Errorf("method %s looks at no text; leave --calibration out, or choose method align or calibrated, grouping similar, or --refine", o.Method)
	case o.Calibration != nil && a.Encoder() != nil:
		return fmt.Errorf("family %s has an encoder and a decoder, and calibration text is run through one stack only; leave --calibration and --refine out", a.Family.Name)
	case o.Refine > 0 && o.Calibration == nil:
		return errors.New("refine fits layers to what they do with text, and there is none; give --calibration FILE, text like that which the model was trained on")
	case o.Method == Random && o.merges():
		return errors.New("method random uses none of the heads, so there is nothing for grouping similar or refine to go by; choose another method")
	}
	return nil
}

// Modules is how many attention modules are merged before anything is written: the steps that OnModule is told of.
func (p *Plan) Modules() int { return len(p.modules()) }

// modules are the attention modules that a merge computes, in the order of a forward pass.
func (p *Plan) modules() (all []module) {
	for _, s := range p.sites {
		if p.merges() && p.Source.Arch.SiteKVHeads(s) != p.Groups {
			all = append(all, modulesOf(p.Source.Arch, s)...)
		}
	}
	return all
}

// heldBytes is how much of the merged weights is kept in memory; more goes to a temporary file.
const heldBytes = 1 << 30

// merge computes the attention of every module and keeps it, by the names of the result's weights, until it is written.
func (p *Plan) merge(ctx context.Context, target string) error {
	if p.Modules() == 0 {
		return nil
	}
	dir := filepath.Dir(filepath.Clean(target))
	p.merged, p.layers = spill.New(dir, heldBytes), nil
	params, err := p.Source.Arch.Params()
	if err != nil {
		return err
	}
	var walk *calibrate.Walk
	if p.Calibration != nil {
		walk, err = calibrate.New(ctx, p.Source, p.converted, *p.Calibration, dir, p.Refine > 0)
		if err != nil {
			return err
		}
		defer walk.Close()
	}
	var all []calibrate.Weights // by module
	for _, m := range p.modules() {
		changed, err := p.mergeModule(ctx, m, params, walk)
		if err != nil {
			return err
		}
		all = append(all, changed)
		if p.Refine > 0 && walk.Fits() {
			p.step()
			continue
		}
		if err := p.keep(m, changed); err != nil {
			return err
		}
		all[len(all)-1] = nil
		p.step()
	}
	if p.Refine > 0 && walk.Fits() {
		return p.together(ctx, all, walk)
	}
	return nil
}

// step tells that a module is merged.
func (p *Plan) step() {
	if p.OnModule != nil {
		p.OnModule(1)
	}
}

// together fits the attention of all layers at once, and keeps it.
func (p *Plan) together(ctx context.Context, all []calibrate.Weights, walk *calibrate.Walk) error {
	joined := calibrate.Weights{}
	for _, changed := range all {
		maps.Copy(joined, changed)
	}
	fit, err := walk.Together(ctx, joined, p.Refine)
	if err != nil {
		return err
	}
	p.joint = &LayerFit{Before: fit.Before, After: fit.After, Steps: fit.Steps, Rate: fit.Rate}
	for i, m := range p.modules() {
		if err := p.keep(m, all[i]); err != nil {
			return err
		}
	}
	return nil
}

// mergeModule merges the heads of one module, as seen in the walk's text where there is one.
func (p *Plan) mergeModule(ctx context.Context, m module, params []configs.Param, walk *calibrate.Walk) (calibrate.Weights, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	at, err := m.read(p.Source, params)
	if err != nil {
		return nil, err
	}
	var seen *merge.Moment
	if walk != nil {
		if seen, err = walk.Layer(ctx, m.layer); err != nil {
			return nil, err
		}
	}
	merged, groups := merge.Merge(at, merge.Inputs{Query: seen, KeyValue: seen}, p.mergeOptions())
	l := Layer{Site: m.site, Layer: m.layer, Groups: report(groups)}
	changed := m.weights(merged)
	if walk != nil {
		if err := p.fit(ctx, &l, changed, seen, walk); err != nil {
			return nil, err
		}
	}
	p.layers = append(p.layers, l)
	return changed, nil
}

// fit brings a merged layer nearer to the output of the original's.
func (p *Plan) fit(ctx context.Context, l *Layer, changed calibrate.Weights, seen *merge.Moment, walk *calibrate.Walk) (err error) {
	if p.Method == Calibrated || p.Refine > 0 {
		l.Readout = &LayerFit{}
		if l.Readout.Before, l.Readout.After, err = walk.Readout(ctx, l.Layer, changed); err != nil {
			return err
		}
	}
	if p.Refine == 0 {
		return nil
	}
	fit, err := walk.Refine(ctx, l.Layer, changed, seen, p.Refine)
	if err != nil {
		return err
	}
	l.Fit = &LayerFit{Before: fit.Before, After: fit.After, Steps: fit.Steps, Rate: fit.Rate}
	return walk.Advance(ctx, l.Layer, changed)
}

func (p *Plan) mergeOptions() merge.Options {
	return merge.Options{Groups: p.Groups, Method: merge.Method(p.Method), Similar: p.Grouping == Similar, Seed: p.Seed}
}

// keep stores a module's weights as the result has them.
func (p *Plan) keep(m module, changed calibrate.Weights) error {
	var shared []string
	for _, role := range []configs.Role{m.k, m.v, m.kNorm} {
		shared = append(shared, m.param(role, false), m.param(role, true))
	}
	for name, values := range changed {
		if p.Target == Expanded && slices.Contains(shared, name) {
			values = repeat(values, p.Groups, m.arch.KVHeads)
		}
		if err := p.merged.Put(name, values); err != nil {
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
