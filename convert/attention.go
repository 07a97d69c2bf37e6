package convert

import (
	"context"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/merge"
)

// module is one attention module of the source: its stack, its layer and the roles of its weights.
type module struct {
	site                     configs.Site
	arch                     *configs.Arch // of the stack, with this module's KV heads and positions
	prefix                   string        // of its weights' names
	layer                    int
	q, k, v, o, qNorm, kNorm configs.Role
	table                    string // the name, without prefix, of the table of position biases, which move with the heads; empty if there is none
}

// modulesOf lists the attention modules at a kind of site in the order of the forward pass.
func modulesOf(a *configs.Arch, s configs.Site) (all []module) {
	m := module{s, a, "", 0, configs.Q, configs.K, configs.V, configs.O, configs.QNorm, configs.KNorm, ""}
	switch {
	case s == configs.Cross:
		arch := *a
		arch.KVHeads, arch.Position = a.CrossKVHeads, configs.PositionNone
		m = module{s, &arch, "", 0, configs.CrossQ, configs.CrossK, configs.CrossV, configs.CrossO, "", "", ""}
	case s == configs.EncoderSelf && a.Encoder() != nil:
		m.arch, m.prefix = a.Encoder(), configs.EncoderPrefix
	}
	for m.layer = range m.arch.Layers {
		if m.arch.Position == configs.PositionT5 {
			m.table = configs.ParamName(configs.Distances, m.tableLayer(), false)
		}
		all = append(all, m)
	}
	return all
}

// tableLayer returns the layer whose table of position biases the module reads, or -1 if one table serves the whole
// stack.
func (m module) tableLayer() int {
	if _, own := m.arch.Family.Layer[configs.Distances]; own {
		return m.layer
	}
	return -1
}

// sharesTable reports whether all layers of the stack share one table of position biases, and therefore one order of
// heads.
func (m module) sharesTable() bool { return m.table != "" && m.tableLayer() < 0 }

// sameLayer reports whether two modules are in the same layer of the same stack.
func (m module) sameLayer(n module) bool { return m.layer == n.layer && m.prefix == n.prefix }

// param returns the forward pass's name of the weight or bias of a role.
func (m module) param(role configs.Role, bias bool) string {
	return m.prefix + configs.ParamName(role, m.layer, bias)
}

// part locates the weight and bias of a role in a merge.Attention.
type part struct{ weight, bias *[]float32 }

func (p part) of(bias bool) *[]float32 {
	if bias {
		return p.bias
	}
	return p.weight
}

// parts returns the parts that a merge changes. These include norms only if each head has its own norm weights.
func (m module) parts(at *merge.Attention) map[configs.Role]part {
	parts := map[configs.Role]part{
		m.q: {&at.Q.W, &at.Q.Bias}, m.k: {&at.K.W, &at.K.Bias}, m.v: {&at.V.W, &at.V.Bias}, m.o: {&at.O.W, &at.O.Bias},
	}
	if m.arch.OwnNorms(m.qNorm) {
		parts[m.qNorm] = part{&at.QNorm.W, &at.QNorm.Bias}
	}
	if m.arch.OwnNorms(m.kNorm) {
		parts[m.kNorm] = part{&at.KNorm.W, &at.KNorm.Bias}
	}
	return parts
}

// read reads the module's attention from the checkpoint.
func (m module) read(ctx context.Context, src *Source, params []configs.Param) (*merge.Attention, error) {
	a := m.arch
	at := &merge.Attention{Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim}
	parts := m.parts(at)
	for _, p := range params {
		part, ok := parts[p.Role]
		switch {
		case m.table != "" && p.Name == m.prefix+m.table:
			part.weight = &at.Distances
		case !ok || p.Name != m.param(p.Role, p.Bias):
			continue
		}
		values, err := src.Read(ctx, p)
		if err != nil {
			return nil, err
		}
		*part.of(p.Bias) = values
	}
	at.Q.In, at.O.In = len(at.Q.W)/(a.Heads*a.HeadDim), a.Heads*a.HeadDim
	at.K.In, at.V.In = len(at.K.W)/a.KVDim(), len(at.V.W)/a.KVDim()
	at.Key, at.Value = m.invariance(a, params)
	return at, nil
}

// weights returns the weights that a merge changed, by their names in the forward pass of the stack.
func (m module) weights(at *merge.Attention) calibrate.Weights {
	all := calibrate.Weights{}
	for role, part := range m.parts(at) {
		for _, bias := range []bool{false, true} {
			if values := *part.of(bias); values != nil {
				all[configs.ParamName(role, m.layer, bias)] = values
			}
		}
	}
	return all
}

// invariance returns the maps of a key head that its queries can undo, and the maps of a value head that the output can
// undo.
func (m module) invariance(a *configs.Arch, params []configs.Param) (key, value merge.Invariance) {
	key, value = merge.AnyMap(a.HeadDim), merge.AnyMap(a.HeadDim)
	if a.Position == configs.PositionRope {
		key = merge.Rotary(a.HeadDim, 2*len(a.Rope.InvFreq()), a.RopeInterleaved)
	}
	if a.ClipQKV > 0 { // clips each dim separately
		key, value = key.SignsOnly(), value.SignsOnly()
	}
	if a.Has(m.kNorm) {
		key = m.normedKey(a, key, params)
	}
	return key, value
}

// normedKey returns the invariance that remains of keys after a norm: a root-mean-square norm has a weight for each dim,
// and a LayerNorm also subtracts the mean over all.
func (m module) normedKey(a *configs.Arch, key merge.Invariance, params []configs.Param) merge.Invariance {
	if a.Norm == configs.RMSNorm {
		return key.SignsOnly()
	}
	biased := false
	for _, p := range params {
		biased = biased || p.Role == m.kNorm && p.Bias
	}
	// A bias that all heads share distinguishes a key from its negative, as does a mean over several heads.
	if a.NormDim(m.kNorm) != a.HeadDim || biased && !m.arch.OwnNorms(m.kNorm) {
		return merge.NoMap(a.HeadDim)
	}
	return merge.OneSign(a.HeadDim)
}
