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
	"gqa/convert/offload"
)

// heldBytes is how much of the merged weights is kept in memory; more goes to a temporary file.
const heldBytes = 1 << 30

// merging is a merge under way.
type merging struct {
	*Plan
	params []configs.Param
	walk   *calibrate.Walk   // nil: there is no text
	whole  bool              // whether all modules are fitted together in the end
	layer  calibrate.Weights // merged already of the layer in work
	// all are the modules' weights, and tables the position biases that moved, where all are fitted together in the end.
	all    []calibrate.Weights
	tables calibrate.Weights
}

// merge computes the attention of every module and keeps it, by the names of the result's weights, until it is written.
func (p *Plan) merge(ctx context.Context, target string) error {
	modules := p.modules()
	if len(modules) == 0 {
		return nil
	}
	if err := p.Source.CheckFinite(ctx, nil); err != nil {
		return err
	}
	dir := filepath.Dir(filepath.Clean(target))
	p.merged, p.layers = offload.New(dir, heldBytes), nil
	if err := p.chooseOrders(ctx, dir); err != nil {
		return err
	}
	whole := p.fitsTogether()
	g, err := p.newMerging(ctx, dir, p.Refine > 0 && !whole)
	if err != nil {
		return err
	}
	g.whole = whole
	if err := g.modules(ctx, modules); err != nil || !whole {
		return err
	}
	return g.together(ctx, modules)
}

// modules merges one module after the other.
func (g *merging) modules(ctx context.Context, modules []module) error {
	defer g.walk.Close()
	for i, m := range modules {
		if i == 0 || !m.sameLayer(modules[i-1]) {
			g.layer = calibrate.Weights{}
		}
		if err := g.module(ctx, m, i+1 == len(modules) || !m.sameLayer(modules[i+1])); err != nil {
			return err
		}
		g.step()
	}
	return nil
}

// newMerging begins to take the calibration text through the model, if there is any.
func (p *Plan) newMerging(ctx context.Context, dir string, follow bool) (*merging, error) {
	params, err := p.Source.Arch.Params()
	g := &merging{Plan: p, params: params, tables: calibrate.Weights{}}
	if err != nil || p.Calibration == nil {
		return g, err
	}
	g.walk, err = calibrate.New(ctx, p.Source, p.converted, *p.Calibration, dir, follow)
	return g, err
}

// step tells of one of MergeWork.
func (p *Plan) step() {
	if p.OnMerge != nil {
		p.OnMerge(1)
	}
}

// chooseOrders looks for the groups of sites whose layers must agree on them. It takes the text through the model once.
func (p *Plan) chooseOrders(ctx context.Context, dir string) error {
	modules := slices.DeleteFunc(p.modules(), func(m module) bool { return !p.ordered(m) })
	if len(modules) == 0 {
		return nil
	}
	g, err := p.newMerging(ctx, dir, false)
	if err != nil {
		return err
	}
	defer g.walk.Close()
	searches := map[configs.Site]*merge.Search{}
	for _, m := range modules {
		at, seen, err := g.see(ctx, m)
		if err != nil {
			return err
		}
		if searches[m.site] == nil {
			searches[m.site] = &merge.Search{Method: p.Method, Groups: p.Groups, Seed: p.Seed}
		}
		if err := searches[m.site].Add(ctx, at, seen); err != nil {
			return g.named(m, string(g.Grouping), err)
		}
		p.step()
	}
	p.orders = map[configs.Site][][]int{}
	for site, search := range searches {
		p.orders[site] = search.Parts()
	}
	return nil
}

// stack is the walk through the stack that m is in.
func (g *merging) stack(m module) *calibrate.Walk {
	if g.walk != nil && m.prefix != "" {
		return g.walk.Encoder()
	}
	return g.walk
}

// see reads a module's attention, and takes the text up to it.
func (g *merging) see(ctx context.Context, m module) (at *merge.Attention, seen merge.Inputs, err error) {
	if err = ctx.Err(); err != nil {
		return nil, seen, err
	}
	if at, err = m.read(ctx, g.Source, g.params); err != nil || g.walk == nil {
		return at, seen, err
	}
	if m.site == configs.Cross {
		if seen.Query, seen.KeyValue, err = g.walk.Cross(ctx, m.layer, g.layer); err != nil {
			err = g.named(m, "calibration", err)
		}
		return at, seen, err
	}
	if seen.Query, err = g.stack(m).Layer(ctx, m.layer); err != nil {
		return at, seen, g.named(m, "calibration", err)
	}
	seen.KeyValue = seen.Query
	return at, seen, nil
}

// module merges the heads of one module. last says that it is its layer's last.
func (g *merging) module(ctx context.Context, m module, last bool) error {
	at, seen, err := g.see(ctx, m)
	if err != nil {
		return err
	}
	merged, groups, err := merge.Merge(ctx, at, seen, g.options(m))
	if err != nil {
		return g.named(m, string(g.Method), err)
	}
	l := Layer{Site: m.site, Layer: m.layer, Groups: report(groups)}
	changed := m.weights(merged)
	if err := g.move(m, merged.Distances); err != nil {
		return err
	}
	if g.walk != nil {
		if err := g.fit(ctx, &l, changed, g.stack(m)); err != nil {
			return g.named(m, "fit", err)
		}
	}
	g.layers = append(g.layers, l)
	maps.Copy(g.layer, changed)
	if g.whole {
		g.all = append(g.all, changed)
		return nil
	}
	if last && g.Refine > 0 {
		if err := g.stack(m).Advance(ctx, m.layer, g.layer); err != nil {
			return g.named(m, "fit", err)
		}
	}
	return g.keep(m, changed)
}

// named says at which module a step failed.
func (p *Plan) named(m module, step string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("layer %d, %s attention: %s: %w", m.layer, m.site, step, err)
}

// options are those of m's merge.
func (g *merging) options(m module) merge.Options {
	return merge.Options{
		Groups: g.Groups, Method: g.Method, Similar: g.Grouping == Similar, Seed: g.Seed, Parts: g.orders[m.site],
	}
}

// move keeps the table of m's position biases, in the order that its heads were given.
func (g *merging) move(m module, table []float32) error {
	if table == nil || g.Grouping != Similar {
		return nil
	}
	if g.walk != nil {
		g.stack(m).Move(m.table, table)
	}
	g.tables[m.prefix+m.table] = table
	return g.merged.Put(m.prefix+m.table, table)
}

// fit brings a merged layer nearer to the output of the original's.
func (g *merging) fit(ctx context.Context, l *Layer, changed calibrate.Weights, walk *calibrate.Walk) (err error) {
	if g.Method == Calibrated || g.Refine > 0 {
		l.Readout = &LayerFit{}
		if l.Readout.Before, l.Readout.After, err = walk.Readout(ctx, l.Layer, changed); err != nil {
			return err
		}
	}
	if g.Refine == 0 || g.whole {
		return nil
	}
	fit, err := walk.Refine(ctx, l.Layer, changed, g.Refine, g.refineStep())
	l.Fit = layerFit(fit)
	return err
}

// together fits the attention of all modules at once, and keeps it.
func (g *merging) together(ctx context.Context, modules []module) error {
	fitted := calibrate.Weights{}
	for i, m := range modules {
		for name, values := range g.all[i] {
			fitted[m.prefix+name] = values
		}
	}
	fit, layers, err := calibrate.Together(ctx, g.Source, g.converted, *g.Calibration, calibrate.Changes{Fitted: fitted, Fixed: g.tables}, g.Refine, g.refineStep())
	if err != nil {
		return fmt.Errorf("refining all layers: %w", err)
	}
	g.joint = layerFit(fit)
	for i, m := range modules {
		if m.prefix == "" {
			g.layers[i].States = &LayerFit{Before: layers[m.layer].Before, After: layers[m.layer].After}
		}
		if err := g.keep(m, g.all[i]); err != nil {
			return err
		}
	}
	return nil
}

// refineStep tells of the steps of one descent: one that begins anew at another rate makes more than were asked for.
func (g *merging) refineStep() func() {
	told := 0
	return func() {
		if told++; told <= g.Refine {
			g.step()
		}
	}
}

func layerFit(f calibrate.Fit) *LayerFit {
	return &LayerFit{Before: f.Before, After: f.After, Steps: f.Steps, Rate: f.Rate}
}
