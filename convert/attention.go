package convert

import (
	"gqa/configs"
	"gqa/convert/merge"
	"gqa/internal/weights"
)

// site is one attention module of the source: the layer it is in and the roles of its weights.
type site struct {
	layer                    int
	q, k, v, o, qNorm, kNorm configs.Role
}

// sites are the attention modules whose heads a conversion merges, in the order of a forward pass.
func sites(a *configs.Arch) []site {
	var all []site
	for layer := range a.Layers {
		all = append(all, site{layer, configs.Q, configs.K, configs.V, configs.O, configs.QNorm, configs.KNorm})
	}
	return all
}

// part is where an attention module holds a role's weight and bias.
type part struct{ weight, bias *[]float32 }

func (p part) of(bias bool) *[]float32 {
	if bias {
		return p.bias
	}
	return p.weight
}

// parts are what a merge changes. Norms are among them only where each head has weights of its own.
func (s site) parts(a *configs.Arch, at *merge.Attention) map[configs.Role]part {
	parts := map[configs.Role]part{
		s.q: {&at.Q.W, &at.Q.Bias}, s.k: {&at.K.W, &at.K.Bias}, s.v: {&at.V.W, &at.V.Bias}, s.o: {&at.O.W, &at.O.Bias},
	}
	if a.OwnNorms(s.qNorm) {
		parts[s.qNorm] = part{&at.QNorm.W, &at.QNorm.Bias}
	}
	if a.OwnNorms(s.kNorm) {
		parts[s.kNorm] = part{&at.KNorm.W, &at.KNorm.Bias}
	}
	return parts
}

// read takes a site's attention out of the checkpoint.
func (s site) read(src *weights.Source, params []configs.Param) (*merge.Attention, error) {
	a := src.Arch
	at := &merge.Attention{Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim}
	parts := s.parts(a, at)
	for _, p := range params {
		part, ok := parts[p.Role]
		if !ok || p.Name != configs.ParamName(p.Role, s.layer, p.Bias) {
			continue
		}
		values, err := src.Read(p)
		if err != nil {
			return nil, err
		}
		*part.of(p.Bias) = values
	}
	at.Q.In, at.O.In = len(at.Q.W)/(a.Heads*a.HeadDim), a.Heads*a.HeadDim
	at.K.In, at.V.In = len(at.K.W)/a.KVDim(), len(at.V.W)/a.KVDim()
	at.Key, at.Value = s.freedom(a, params)
	return at, nil
}

// freedom says which maps of a key head its queries can undo, and of a value head the output.
func (s site) freedom(a *configs.Arch, params []configs.Param) (key, value merge.Freedom) {
	key, value = merge.AnyMap(a.HeadDim), merge.AnyMap(a.HeadDim)
	if a.Position == configs.PositionRope {
		key = merge.Rotary(a.HeadDim, 2*len(a.Rope.InvFreq()), a.RopeInterleaved)
	}
	if a.ClipQKV > 0 { // clips each dim for itself
		key, value = key.SignsOnly(), value.SignsOnly()
	}
	if a.Has(s.kNorm) {
		key = s.normedKey(a, key, params)
	}
	return key, value
}

// normedKey is what a norm of the keys leaves of their freedom: a root mean square has weights for each dim, a LayerNorm also
// takes the mean of all.
func (s site) normedKey(a *configs.Arch, key merge.Freedom, params []configs.Param) merge.Freedom {
	if a.Norm == configs.RMSNorm {
		return key.SignsOnly()
	}
	biased := false
	for _, p := range params {
		biased = biased || p.Role == s.kNorm && p.Bias
	}
	// A bias that all heads share tells a key from its negative, as does a mean over several heads.
	if a.NormDim(s.kNorm) != a.HeadDim || biased && !a.OwnNorms(s.kNorm) {
		return merge.NoMap(a.HeadDim)
	}
	return merge.OneSign(a.HeadDim)
}
