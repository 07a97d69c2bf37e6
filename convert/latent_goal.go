package convert

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gqa/configs"
	"gqa/convert/latent"
	"gqa/convert/target"
)

// LatentGoal is the goal of latent attention: what a cache holds for a token in each layer.
type LatentGoal struct {
	Rank      int // width of the latent
	RopeDim   int // width of the rotary key that all heads share
	QueryRank int // width of a latent that queries come from; 0 for none. Not for DeepSeek
	// Bytes is the size of a token's cache over all layers, at two bytes a number, from which a Rank of 0 follows. So does a RopeDim of
	// 0: a quarter of the numbers, or all rotary dims if these are fewer.
	Bytes int64
	// Equal gives the latents of all layers the same width. Otherwise that follows from Bytes and a text for each layer, if a layout holds it.
	Equal bool
	// Bias makes the last number of the latent a constant, by a bias, which makes the norm nearly constant. For DeepSeek only.
	Bias bool

	divided bool  // Rank followed from Bytes, and layers may have others
	ranks   []int // of the layers; nil if all have Rank
}

// LatentAttention returns the goal of latent attention.
func LatentAttention(l LatentGoal) Goal { return Goal{latent: &l} }

// Latent returns the sizes of latent attention, or nil if the goal is a number of KV heads.
func (g Goal) Latent() *LatentGoal {
	if g.latent == nil {
		return nil
	}
	l := *g.latent
	return &l
}

// sized returns the goal with the sizes that follow from Bytes for a.
func (l LatentGoal) sized(a *configs.Arch) *LatentGoal {
	if l.Bytes == 0 || l.Rank != 0 {
		return &l
	}
	l.divided = !l.Equal
	numbers := int(l.Bytes / 2 / int64(a.Layers))
	if l.RopeDim == 0 {
		l.Rank, l.RopeDim = a.LatentSizes(numbers)
	} else {
		l.Rank = numbers - l.RopeDim
	}
	return &l
}

// check returns the reason why a cannot have latent attention of these sizes.
func (l LatentGoal) check(a *configs.Arch) error {
	if err := a.CheckLatent(); err != nil {
		return OptionError{Err: fmt.Errorf("kv-rank: the attention cannot become latent: %w", err)}
	}
	most, widest := a.KVRotaryDims(), a.WidestLatent()
	switch {
	case l.Bytes != 0 && l.Rank < 1:
		return OptionError{Err: fmt.Errorf("kv-bytes-per-token is %d, want at least %d: two bytes for each number of %d layers, and room for the latent beside a rotary key of %d",
			l.Bytes, 2*a.Layers*(l.RopeDim+1), a.Layers, l.RopeDim)}
	case l.RopeDim < 2 || l.RopeDim%2 != 0 || l.RopeDim > most:
		return OptionError{Err: fmt.Errorf("rope-dim is %d, want an even number from 2 to %d, the rotary dims of all KV heads", l.RopeDim, most)}
	case l.Rank < 1 || l.Rank > widest:
		return OptionError{Err: fmt.Errorf("kv-rank is %d, want 1 to %d: more than the keys and values of a layer need is of no use", l.Rank, widest)}
	case l.QueryRank < 0 || l.QueryRank > a.Dim:
		return OptionError{Err: fmt.Errorf("query-rank is %d, want at most the model's dim %d, or 0", l.QueryRank, a.Dim)}
	}
	return nil
}

// notes returns what other programs do not load or run fast: FlashMLA's kernels for dense decoding accept 576 numbers or 512, with 512
// values (its csrc/api/dense_decode.cpp), and vLLM chooses among kernels by their sum.
func (l LatentGoal) notes() (notes []Note) {
	if l.Rank != configs.KernelRank || l.RopeDim != configs.KernelRopeDim {
		notes = append(notes, Note{Text: fmt.Sprintf("FlashMLA takes a latent of %d numbers and a rotary key of %d only; with %d and %d, vLLM decodes by its slower Triton kernel",
			configs.KernelRank, configs.KernelRopeDim, l.Rank, l.RopeDim)})
	}
	if l.Bias {
		notes = append(notes, Note{Text: "vLLM has no biases in DeepSeek's attention: with one, only transformers and this toolkit load the result"})
	}
	return notes
}

// stockScale returns the factor for the scores of a in DeepSeek's class.
func stockScale(a *configs.Arch) float64 {
	return a.Rope.ScoreFactor() / math.Sqrt(float64(a.HeadDim))
}

// options returns what package latent needs to know about a layer of a.
func (l LatentGoal) options(a *configs.Arch, layer int) latent.Options {
	o := latent.Options{
		Rank: l.Rank, Planes: l.RopeDim / 2, Interleaved: a.RopeInterleaved, Scale: a.LayerScoreScale(layer), Context: a.Context, QueryRank: l.QueryRank,
	}
	o.InvFreq, o.RopeScale = a.LayerInvFreq(layer)
	return o
}

// rank returns the width of a layer's latent.
func (l LatentGoal) rank(layer int) int {
	if l.ranks == nil {
		return l.Rank
	}
	return l.ranks[layer]
}

// nope returns the width of a head's queries and keys without positions, which is the same in all layers.
func (l LatentGoal) nope(a *configs.Arch) int {
	most := 0
	for i := range a.Layers {
		most = max(most, l.options(a, i).NopeDim(a.HeadDim, a.LayerKV(i)))
	}
	return most
}

// arch returns src's architecture with latent attention in the layout of a target, and its config.json if that is of another family. In
// the own layout, the frequencies of the shared planes, which a run finds, are zero.
func (l LatentGoal) arch(src *Source, to Target) (*configs.Arch, []byte, error) {
	a := src.Arch
	if to == DeepSeek {
		return l.stock(src)
	}
	layers := make([]configs.Latent, a.Layers)
	for i := range layers {
		layers[i] = configs.Latent{
			Rank: l.rank(i), QueryRank: l.QueryRank, NopeDim: l.nope(a), RopeDim: l.RopeDim, ValueDim: a.HeadDim, InvFreq: make([]float64, l.RopeDim/2),
		}
	}
	biased, err := l.biased(a)
	if err != nil {
		return nil, nil, err
	}
	b, err := a.WithLatent(src.Config, layers, a.LayerScoreScale(0), biased...)
	return b, nil, err
}

// stock is arch for target DeepSeek.
func (l LatentGoal) stock(src *Source) (*configs.Arch, []byte, error) {
	a := src.Arch
	if l.QueryRank > 0 {
		return nil, nil, OptionError{Err: fmt.Errorf("query-rank is for target %s: in %s there is a norm between the two parts of the queries", MLA, DeepSeek)}
	}
	if l.Rank < 2 {
		return nil, nil, OptionError{Err: fmt.Errorf("kv-rank is %d, want at least 2: in %s one number is a constant", l.Rank, DeepSeek)}
	}
	biased, err := l.biased(a)
	if err != nil {
		return nil, nil, err
	}
	sizes := configs.Latent{Rank: l.Rank, NopeDim: a.HeadDim, RopeDim: l.RopeDim, ValueDim: a.HeadDim}
	b, config, err := a.WithStockLatent(src.Config, sizes, l.Bias || len(biased) > 0)
	if err != nil {
		return nil, nil, OptionError{Err: err, Give: []Setting{{OptionTarget, string(MLA)}}}
	}
	return b, config, nil
}

// biased returns the roles of latent attention that have a bias because a's queries, keys, values or output have one.
func (l LatentGoal) biased(a *configs.Arch) (roles []configs.Role, err error) {
	params, err := a.Params()
	for _, p := range params {
		if !p.Bias {
			continue
		}
		switch p.Role {
		case configs.Q:
			roles = append(roles, configs.QHeads, configs.QA, configs.QB)
		case configs.K, configs.V:
			roles = append(roles, configs.KVA)
		case configs.O:
			roles = append(roles, configs.O)
		}
	}
	return roles, err
}

// latentRoles are the roles of the weights that latent attention has instead of queries, keys, values and output.
var latentRoles = []configs.Role{
	configs.QA, configs.QNope, configs.QRope, configs.KRope, configs.LatentKV, configs.KeyUp, configs.ValueUp, configs.O, configs.KVANorm,
}

// latentResult describes how each weight of src's conversion to the latent attention of the architecture to is computed.
func (o Options) latentResult(src *Source, to *configs.Arch, config []byte) (r target.Result, merged map[string]bool, err error) {
	r, merged = target.Result{Source: src, Arch: to, Config: config, DType: o.DType, ShardSize: o.ShardSize}, map[string]bool{}
	all, err := src.Arch.Params()
	if err != nil {
		return r, nil, err
	}
	from, keys := map[string]configs.Param{}, map[int]configs.Param{}
	for _, p := range all {
		if from[p.Name] = p; p.Role == configs.K && !p.Bias {
			keys[p.Layer] = p
		}
	}
	params, err := to.Params()
	for _, p := range params {
		w := target.Weight{Param: p, From: from[p.Name], Kind: target.Copied}
		if slices.Contains(latentRoles, p.Role) {
			w.Kind, w.From, merged[p.Name] = target.Computed, keys[p.Layer], true
		} else if w.From.Name == "" {
			return r, nil, errors.New("the source has no weight " + p.Name)
		} else if p.Tensor != w.From.Tensor || !slices.Equal(p.Rows, w.From.Rows) || p.Transposed != w.From.Transposed {
			w.Kind = target.Computed // its values are the source's
		}
		r.Weights = append(r.Weights, w)
	}
	return r, merged, err
}
