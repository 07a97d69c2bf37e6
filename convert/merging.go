package convert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/merge"
)

// merging is the state of a run's merge.
type merging struct {
	*run
	params []configs.Param
	walk   *calibrate.Walk   // nil if there is no text
	whole  bool              // whether all modules are fitted together at the end
	layer  calibrate.Weights // already merged weights of the current layer
	// all holds the modules' weights, and tables the position biases that moved, if all are fitted together at the end.
	all    []calibrate.Weights
	tables calibrate.Weights
}

// merge computes the attention of every module and stores it under the names of the result's weights until it is written.
func (r *run) merge(ctx context.Context) error {
	if len(r.modules) == 0 {
		return nil
	}
	if err := r.Source.CheckFinite(ctx, nil); err != nil {
		return err
	}
	if err := r.chooseOrders(ctx); err != nil {
		return err
	}
	whole := r.fitsTogether()
	if err := r.chooseRanks(ctx); err != nil {
		return err
	}
	if err := r.ownLatent(); err != nil {
		return err
	}
	g, err := r.newMerging(ctx, r.Refine > 0 && !whole)
	if err != nil {
		return err
	}
	g.whole = whole
	if err := g.mergeAll(ctx); err != nil {
		return err
	}
	if whole {
		if err := g.together(ctx); err != nil {
			return err
		}
	}
	return r.settleLatent()
}

// mergeAll merges one module after the other.
func (g *merging) mergeAll(ctx context.Context) error {
	defer g.walk.Close()
	modules := g.modules
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

// newMerging starts the pass of the calibration text, if there is any, through the model.
func (r *run) newMerging(ctx context.Context, follow bool) (*merging, error) {
	params, err := r.Source.Arch.Params()
	g := &merging{run: r, params: params, tables: calibrate.Weights{}}
	if err != nil || r.Calibration == nil {
		return g, err
	}
	d, err := r.openDevice()
	if err != nil {
		return g, err
	}
	g.walk, err = calibrate.New(ctx, d, r.Source, r.result.Arch, *r.Calibration, r.dir, follow)
	return g, err
}

// openDevice returns the device that runs the model.
func (r *run) openDevice() (d calibrate.Device, err error) {
	if r.device == nil {
		r.device, err = calibrate.OpenDevice(r.Device)
	}
	return r.device, err
}

// step reports one of the steps that MergeWork counts.
func (r *run) step() {
	if r.o.OnMerge != nil {
		r.o.OnMerge(1)
	}
}

// chooseOrders chooses the groups of sites whose layers must agree on them. It runs the text through the model once.
func (r *run) chooseOrders(ctx context.Context) error {
	modules := slices.DeleteFunc(slices.Clone(r.modules), func(m module) bool { return !r.ordered(m) })
	if len(modules) == 0 {
		return nil
	}
	g, err := r.newMerging(ctx, false)
	if err != nil {
		return err
	}
	defer g.walk.Close()
	searches := map[configs.Site]*merge.Search{}
	for _, m := range modules {
		if searches[m.site] == nil {
			searches[m.site] = &merge.Search{Method: r.Method, Groups: r.Goal.Groups(), Seed: r.Seed}
		}
		if err := g.search(ctx, m, searches[m.site]); err != nil {
			return err
		}
		r.step()
	}
	r.orders = map[configs.Site][][]int{}
	for site, search := range searches {
		r.orders[site] = search.Parts()
	}
	return nil
}

// search includes a module in the choice of groups.
func (g *merging) search(ctx context.Context, m module, s *merge.Search) error {
	a, inputs, err := g.observe(ctx, m)
	if err != nil {
		return err
	}
	if err := s.Add(ctx, a, inputs); err != nil {
		return at(m, string(g.Grouping), err)
	}
	return nil
}

// stack returns the walk through the stack of m.
func (g *merging) stack(m module) *calibrate.Walk {
	if g.walk != nil && m.prefix != "" {
		return g.walk.Encoder()
	}
	return g.walk
}

// observe reads a module's attention and runs the text up to it. It returns the moments of the attention's input.
func (g *merging) observe(ctx context.Context, m module) (a *merge.Attention, in merge.Inputs, err error) {
	if err = ctx.Err(); err != nil {
		return nil, in, err
	}
	if a, err = m.read(ctx, g.Source, g.params); err != nil || g.walk == nil {
		return a, in, err
	}
	if m.site == configs.Cross {
		in.Query, in.KeyValue, err = g.walk.Cross(ctx, m.layer, g.layer)
	} else {
		in.Query, err = g.stack(m).Layer(ctx, m.layer)
		in.KeyValue = in.Query
	}
	if err != nil {
		err = at(m, "calibration", err)
	}
	return a, in, err
}

// module merges the heads of one module. last reports whether it is the last of its layer.
func (g *merging) module(ctx context.Context, m module, last bool) error {
	a, in, err := g.observe(ctx, m)
	if err != nil {
		return err
	}
	if g.Goal.latent != nil {
		return g.latent(ctx, m, a, in.Query, last)
	}
	merged, groups, err := merge.Merge(ctx, a, in, g.options(m))
	if err != nil {
		return at(m, string(g.Method), err)
	}
	l := Layer{Site: m.site, Layer: m.layer, Groups: report(groups)}
	changed := m.weights(merged)
	if err := g.move(m, merged.Distances); err != nil {
		return err
	}
	if g.walk != nil {
		if err := g.fit(ctx, &l, changed, g.stack(m)); err != nil {
			return at(m, "fit", err)
		}
	}
	g.layers = append(g.layers, l)
	return g.finish(ctx, m, changed, last)
}

// finish runs the converted model through a layer, if the walk follows it, and stores a module's weights.
func (g *merging) finish(ctx context.Context, m module, changed calibrate.Weights, last bool) error {
	maps.Copy(g.layer, changed)
	if g.whole {
		g.all = append(g.all, changed)
		return nil
	}
	if last && g.Refine > 0 {
		if err := g.stack(m).Advance(ctx, m.layer, g.layer); err != nil {
			return at(m, "fit", err)
		}
	}
	return g.keep(m, changed)
}

// at adds to an error the module at which a step failed.
func at(m module, step string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("layer %d, %s attention: %s: %w", m.layer, m.site, step, err)
}

// options returns the options for the merge of m.
func (g *merging) options(m module) merge.Options {
	return merge.Options{
		Groups: g.Goal.Groups(), Method: g.Method, Similar: g.Grouping == Similar, Seed: g.Seed, Parts: g.orders[m.site],
	}
}

// move stores the table of m's position biases in the new order of the heads.
func (g *merging) move(m module, table []float32) error {
	if table == nil || g.Grouping != Similar {
		return nil
	}
	if g.walk != nil {
		g.stack(m).Move(m.table, table)
	}
	g.tables[m.prefix+m.table] = table
	return g.store.Put(m.prefix+m.table, table)
}

// fit brings a merged layer's output closer to the original's.
func (g *merging) fit(ctx context.Context, l *Layer, changed calibrate.Weights, walk *calibrate.Walk) (err error) {
	if g.Method == Calibrated || g.Goal.latent != nil || g.Refine > 0 {
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

// together fits the attention of all modules at once and stores it.
func (g *merging) together(ctx context.Context) error {
	fitted := calibrate.Weights{}
	for i, m := range g.modules {
		for name, values := range g.all[i] {
			fitted[m.prefix+name] = values
		}
	}
	changes := calibrate.Changes{Fitted: fitted, Fixed: g.tables}
	d, err := g.openDevice()
	if err != nil {
		return err
	}
	fit, layers, err := calibrate.Together(ctx, d, g.Source, g.result.Arch, *g.Calibration, changes, g.Refine, g.refineStep())
	if err != nil {
		return fmt.Errorf("refining all layers: %w", err)
	}
	g.joint = layerFit(fit)
	for i, m := range g.modules {
		if m.prefix == "" {
			g.layers[i].States = &LayerFit{Before: layers[m.layer].Before, After: layers[m.layer].After}
		}
		if err := g.keep(m, g.all[i]); err != nil {
			return err
		}
	}
	return nil
}

// refineStep returns a function that reports the steps of one descent, but no more than were requested: a descent that
// restarts at another rate makes more.
func (g *merging) refineStep() func() {
	reported := 0
	return func() {
		if reported++; reported <= g.Refine {
			g.step()
		}
	}
}

func layerFit(f calibrate.Fit) *LayerFit {
	return &LayerFit{Before: f.Before, After: f.After, Steps: f.Steps, Rate: f.Rate}
}
