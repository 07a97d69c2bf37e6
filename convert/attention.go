package convert

import (
	"gqa/configs"
	"gqa/convert/merge"
	"gqa/internal/weights"
)

// site is one attention module of the source: the roles of its projections, and the layer they are in.
type site struct {
	layer      int
	q, k, v, o configs.Role
}

// sites are the attention modules whose heads a conversion merges, in the order of a forward pass.
func sites(a *configs.Arch) []site {
	var all []site
	for layer := range a.Layers {
		all = append(all, site{layer, configs.Q, configs.K, configs.V, configs.O})
	}
	return all
}

// roles are the site's weights that a merge changes.
func (s site) roles() []configs.Role { return []configs.Role{s.q, s.k, s.v, s.o} }

// read takes a site's attention out of the checkpoint.
func (s site) read(src *weights.Source) (*merge.Attention, error) {
	a := src.Arch
	params, err := a.Params()
	if err != nil {
		return nil, err
	}
	at := &merge.Attention{Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim, Key: keyFreedom(a), Value: merge.AnyMap(a.HeadDim)}
	parts := s.parts(at)
	for _, p := range params {
		for role, l := range parts {
			if p.Name != configs.ParamName(role, s.layer, p.Bias) {
				continue
			}
			values, err := src.Read(p)
			if err != nil {
				return nil, err
			}
			if p.Bias {
				l.Bias = values
			} else {
				l.W, l.In = values, p.Shape[1]
			}
		}
	}
	return at, nil
}

// parts are the attention's projections by role.
func (s site) parts(at *merge.Attention) map[configs.Role]*merge.Linear {
	return map[configs.Role]*merge.Linear{s.q: &at.Q, s.k: &at.K, s.v: &at.V, s.o: &at.O}
}

// keyFreedom says which maps of a key head its queries can undo.
func keyFreedom(a *configs.Arch) merge.Freedom {
	if a.Position != configs.PositionRope {
		return merge.AnyMap(a.HeadDim)
	}
	return merge.Rotary(a.HeadDim, 2*len(a.Rope.InvFreq()), false)
}
