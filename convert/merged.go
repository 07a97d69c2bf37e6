package convert

import (
	"context"
	"fmt"
	"path/filepath"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/convert/spill"
)

// Layer is what a merge did to one layer's attention.
type Layer struct {
	Site   configs.Site  `json:"site"`
	Layer  int           `json:"layer"`
	Groups []MergedGroup `json:"groups"`
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
	return o.Method == Align || o.Method == Calibrated || o.Grouping == Similar
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
	p.merged = spill.New(filepath.Dir(filepath.Clean(target)), heldBytes)
	params, err := p.Source.Arch.Params()
	if err != nil {
		return err
	}
	p.layers = nil
	for _, m := range p.modules() {
		if err := ctx.Err(); err != nil {
			return err
		}
		at, err := m.read(p.Source, params)
		if err != nil {
			return err
		}
		merged, groups := merge.Merge(at, merge.Inputs{}, p.mergeOptions())
		if err := p.keep(m, merged); err != nil {
			return err
		}
		p.layers = append(p.layers, Layer{m.site, m.layer, report(groups)})
		if p.OnModule != nil {
			p.OnModule(1)
		}
	}
	return nil
}

func (p *Plan) mergeOptions() merge.Options {
	return merge.Options{Groups: p.Groups, Method: merge.Method(p.Method), Similar: p.Grouping == Similar, Seed: p.Seed}
}

// keep stores a module's weights as the result has them.
func (p *Plan) keep(m module, at *merge.Attention) error {
	for role, part := range m.parts(at) {
		for _, bias := range []bool{false, true} {
			values := *part.of(bias)
			if values == nil {
				continue
			}
			if p.Target == Expanded && (role == m.k || role == m.v || role == m.kNorm) {
				values = repeat(values, p.Groups, m.arch.KVHeads)
			}
			if err := p.merged.Put(m.param(role, bias), values); err != nil {
				return err
			}
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
