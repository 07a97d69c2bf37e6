package configs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gqa/internal/activation"
)

// activations maps transformers' names (ACT2FN) to the activation functions that have kernels.
var activations = map[string]activation.Func{
	"silu": activation.SiLU, "swish": activation.SiLU, "gelu": activation.GELU, "gelu_new": activation.GELUTanh,
	"gelu_fast": activation.GELUTanh, "gelu_pytorch_tanh": activation.GELUTanh, "quick_gelu": activation.QuickGELU,
	"relu": activation.ReLU, "relu2": activation.ReLU2,
}

type fieldKind struct {
	name    string
	kind    byte     // i: size, c: count (a size or 0), n: number, w: size or 0 for none, t: token ID, p: token ID or -1 for none, b: bool, s: name out of allowed, l: layer types, r: a rope scaling object
	allowed []string // for kind s

	optional bool // a size that a family may omit
}

// fields are the names that a family's config section may define, in the order in which they are resolved.
var fields = []fieldKind{
	{name: "vocab", kind: 'i'},
	{name: "dim", kind: 'i'},
	{name: "layers", kind: 'i'},
	{name: "heads", kind: 'i'},
	{name: "kv_heads", kind: 'i'},
	{name: "head_dim", kind: 'i'}, // optional for latent attention
	{name: "ffn", kind: 'i'},
	{name: "context", kind: 'i'},
	{name: "dense_layers", kind: 'c'}, // layers that are no mixtures of experts
	{name: "attention", kind: 's', allowed: []string{string(GroupedAttention), string(LatentAttention)}},
	{name: "kv_rank", kind: 'i', optional: true},
	{name: "query_rank", kind: 'c'},
	{name: "nope_dim", kind: 'c'},
	{name: "value_dim", kind: 'i', optional: true},
	{name: "latent_norm_eps", kind: 'n'},
	{name: "encoder_layers", kind: 'i', optional: true},
	{name: "encoder_kv_heads", kind: 'i', optional: true},
	{name: "cross_kv_heads", kind: 'i', optional: true},
	{name: "token_types", kind: 'i', optional: true},
	{name: "relative_buckets", kind: 'i', optional: true},
	{name: "relative_distance", kind: 'i', optional: true},
	{name: "start_token", kind: 't'},
	{name: "pad_token", kind: 't'},
	{name: "norm_eps", kind: 'n'},
	{name: "norm_offset", kind: 'n'},
	{name: "tied", kind: 'b'},
	{name: "mlp_bias", kind: 'b'},
	{name: "attn_bias", kind: 'b'},
	{name: "qk_norm", kind: 'b'},
	{name: "clip_qkv", kind: 'n'},
	{name: "embed_scale", kind: 'n'},
	{name: "padding", kind: 'p'},
	{name: "residual_scale", kind: 'n'},
	{name: "logit_scale", kind: 'n'},
	{name: "score_scale", kind: 'n'},
	{name: "scale_scores", kind: 'b'},
	{name: "scale_by_layer", kind: 'b'},
	{name: "score_mscale", kind: 'b'},
	{name: "scale_head", kind: 'b'},
	{name: "causal", kind: 'b'},
	{name: "norm", kind: 's', allowed: []string{string(RMSNorm), string(LayerNorm)}},
	{name: "mlp", kind: 's', allowed: []string{string(Gated), string(Plain)}},
	{name: "residual", kind: 's', allowed: []string{string(Sequential), string(Normed), string(PostNorm), string(Parallel)}},
	{name: "position", kind: 's', allowed: []string{string(PositionRope), string(PositionLearned), string(PositionALiBi), string(PositionT5)}},
	{name: "activation", kind: 's', allowed: slices.Sorted(maps.Keys(activations))},
	{name: "window", kind: 'w'},
	{name: "window_from", kind: 'c'},
	{name: "layer_types", kind: 'l'},
	{name: "embed_dim", kind: 'c'},
	{name: "position_offset", kind: 'c'},
	{name: "alibi_max", kind: 'n'},
	{name: "alibi_coarse", kind: 'n'},
	{name: "rope_fraction", kind: 'n'},
	{name: "rope_dim", kind: 'n'},
	{name: "rope_theta", kind: 'n'},
	{name: "rope_interleaved", kind: 'b'},
	{name: "rope_context", kind: 'n'},
	{name: "rope_scaling", kind: 'r'},
	{name: "window_rope_theta", kind: 'n'},
	{name: "window_rope_scaling", kind: 'r'},
}

// kindOf returns a field's kind, or 0 if there is no such field.
func kindOf(name string) byte {
	for _, k := range fields {
		if k.name == name {
			return k.kind
		}
	}
	return 0
}

// Resolve reads a config.json. family, if not "", overrides its model_type.
func Resolve(config []byte, family string) (*Arch, error) {
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	f, err := familyOf(family, raw)
	if err != nil {
		return nil, err
	}
	if err := checkQuantised(raw); err != nil {
		return nil, err
	}
	return f.resolve(raw)
}

// resolve reads the keys of a config.json of this family.
func (f *Family) resolve(raw map[string]any) (*Arch, error) {
	f, err := f.variant(raw).latent(raw)
	if err != nil {
		return nil, err
	}
	if err := f.checkRequired(raw); err != nil {
		return nil, err
	}
	r := newResolver(f, raw)
	for _, k := range fields {
		if err := r.resolve(k); err != nil {
			return nil, err
		}
	}
	a := r.arch()
	a.Unknown, a.Notes = f.unknownKeys(raw), f.notes(raw)
	if dense := r.numbers["dense_layers"]; f.Config["dense_layers"].Keys != nil && int(dense) < a.Layers {
		return nil, fmt.Errorf("config.json: %s is %g of %d layers: mixtures of experts are not supported, want dense layers only",
			f.Config["dense_layers"].Keys[0], dense, a.Layers)
	}
	if err := a.readLatent(raw); err != nil {
		return nil, err
	}
	groups, err := a.layerKVHeads(raw)
	if err != nil {
		return nil, err
	}
	if groups != nil {
		a = a.WithLayerKVHeads(groups)
	}
	return a, a.check()
}

func (f *Family) checkRequired(raw map[string]any) error {
	for _, q := range f.Require {
		v, ok := lookup(raw, q.Key)
		if ok && !slices.ContainsFunc(q.Values, func(w any) bool { return fmt.Sprint(w) == fmt.Sprint(v) }) {
			return fmt.Errorf("config.json: %s is %v, want one of %v: %s", q.Key, v, q.Values, q.Why)
		}
	}
	return nil
}

func (r *resolver) arch() *Arch {
	n := func(name string) int { return int(r.numbers[name]) }
	r.bools[projected] = n("embed_dim") != 0 && n("embed_dim") != n("dim")
	r.bools[lowRankQueries] = n("query_rank") > 0
	a := &Arch{
		Family: r.family, Prefix: r.family.Prefixes[0], grouped: r.grouped(),
		Vocab: n("vocab"), Dim: n("dim"), Layers: n("layers"), Heads: n("heads"), KVHeads: n("kv_heads"),
		EncoderLayers: n("encoder_layers"), EncoderKVHeads: n("encoder_kv_heads"), CrossKVHeads: n("cross_kv_heads"),
		TokenTypes: n("token_types"), StartToken: n("start_token"), PadToken: n("pad_token"),
		HeadDim: n("head_dim"), FFN: n("ffn"), Context: n("context"),
		NormEps: r.numbers["norm_eps"], NormOffset: r.numbers["norm_offset"], ClipQKV: r.numbers["clip_qkv"],
		EmbedScale: r.numbers["embed_scale"], ResidualScale: r.numbers["residual_scale"], LogitScale: r.logitScale(),
		ScoreScale: r.numbers["score_scale"], Padding: n("padding"),
		Window: n("window"), windowFrom: n("window_from"), layerTypes: r.layerTypes,
		Tied: r.bools["tied"], AttnBias: r.bools["attn_bias"], MLPBias: r.bools["mlp_bias"],
		ScaleScores: r.bools["scale_scores"], ScaleByLayer: r.bools["scale_by_layer"], ScoreMScale: r.bools["score_mscale"],
		Attention: Attention(cmp.Or(r.names["attention"], string(GroupedAttention))),
		Causal:    r.bools["causal"], Relative: Relative{Buckets: n("relative_buckets"), MaxDistance: n("relative_distance")},
		Norm: Norm(r.names["norm"]), MLP: MLP(r.names["mlp"]), Residual: Residual(r.names["residual"]),
		Position: Position(r.names["position"]), Activation: activations[r.names["activation"]],
		Rope: Rope{Dim: n("rope_dim"), Theta: r.numbers["rope_theta"], RopeScaling: r.scalings["rope_scaling"]}, WindowRope: r.windowRope(),
		EmbedDim: n("embed_dim"), PositionOffset: n("position_offset"),
		ALiBi: ALiBi{Max: r.numbers["alibi_max"], Coarse: r.numbers["alibi_coarse"]},
		bools: r.bools, RopeInterleaved: r.bools["rope_interleaved"],
	}
	if a.IsLatent() {
		a.Latent = Latent{
			Rank: n("kv_rank"), QueryRank: n("query_rank"), NopeDim: n("nope_dim"), RopeDim: n("rope_dim"), ValueDim: n("value_dim"),
			NormEps: r.numbers["latent_norm_eps"],
		}
		a.HeadDim = a.Latent.HeadDim()
	}
	return a
}

// check rejects inconsistent sizes.
func (a *Arch) check() error {
	for _, s := range a.Sites() {
		if kv := a.SiteKVHeads(s); a.Heads%kv != 0 {
			return fmt.Errorf("config.json: %d kv heads do not divide %d heads (%s attention)", kv, a.Heads, s)
		}
	}
	if err := a.checkSizes(); err != nil {
		return err
	}
	if a.IsLatent() {
		if err := a.checkLatent(); err != nil {
			return err
		}
	}
	if a.NormEps <= 0 {
		return fmt.Errorf("config.json: norm epsilon is %g, want a positive number", a.NormEps)
	}
	if a.ClipQKV < 0 {
		return fmt.Errorf("config.json: queries, keys and values are clipped to ±%g, want a positive number", a.ClipQKV)
	}
	if err := a.checkLayerTypes(); err != nil {
		return err
	}
	switch a.Position {
	case PositionRope:
		return a.checkRope()
	case PositionALiBi:
		return a.ALiBi.check()
	case PositionT5:
		return a.Relative.check()
	}
	return nil
}

// largestMatrix is the most elements of a matrix.
const largestMatrix = 1 << 40

// checkSizes rejects matrices too large for any file, so that later arithmetic on their sizes cannot overflow.
func (a *Arch) checkSizes() error {
	for _, m := range []struct {
		what       string
		rows, cols int
	}{
		{"embedding", a.Vocab, max(a.Dim, a.EmbedDim)},
		{"feed-forward", 2 * a.FFN, a.Dim},
		{"query", a.Heads * a.HeadDim, a.Dim},
		{"position", a.Context + a.PositionOffset, 1},
	} {
		if float64(m.rows)*float64(m.cols) > largestMatrix {
			return fmt.Errorf("config.json: the %s matrix would have %d × %d numbers, more than any file holds", m.what, m.rows, m.cols)
		}
	}
	return nil
}

// check rejects ranges of distances that do not widen: the base of the logarithm would be 1 or less.
func (r Relative) check() error {
	if r.Buckets < 4 || r.Buckets%2 != 0 || r.MaxDistance <= r.Buckets/2 {
		return fmt.Errorf("config.json: %d relative attention buckets up to distance %d: want an even number from 4 on, and a distance above half of it",
			r.Buckets, r.MaxDistance)
	}
	return nil
}

// lookup follows a dotted path; null counts as missing.
func lookup(raw map[string]any, path string) (any, bool) {
	head, rest, nested := strings.Cut(path, ".")
	v, ok := raw[head]
	if !ok || v == nil {
		return nil, false
	}
	if !nested {
		return v, true
	}
	inner, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	return lookup(inner, rest)
}

// baseKeys are the keys of transformers' base configuration class, and those that save_pretrained adds: none changes a
// forward pass without sampling.
var baseKeys = strings.Fields(`_attn_implementation _attn_implementation_autoset _commit_hash _from_model_config
	_name_or_path architectures auto_map bos_token_id chunk_size_feed_forward decoder_start_token_id dtype early_stopping
	eos_token_id finetuning_task id2label initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length
	min_length model_type num_beams num_key_value_heads_per_layer output_attentions output_hidden_states pad_token_id problem_type return_dict
	task_specific_params tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers_version use_bfloat16
	use_cache`)

// topKey returns the first key of a dotted path.
func topKey(path string) string {
	top, _, _ := strings.Cut(path, ".")
	return top
}

func (f *Family) unknownKeys(raw map[string]any) []string {
	known := map[string]bool{}
	for _, list := range [][]string{baseKeys, f.Neutral} {
		for _, k := range list {
			known[k] = true
		}
	}
	for _, field := range f.Config {
		known[field.If] = true
		for _, k := range field.Keys {
			known[topKey(k)] = true
		}
	}
	for _, q := range f.Require {
		known[topKey(q.Key)] = true
	}
	for _, v := range f.Variants {
		for k := range v.When {
			known[topKey(k)] = true
		}
	}
	for _, g := range []Groups{f.Grouping(1), f.Grouping(2)} {
		known[topKey(g.Key)] = true
		for k := range g.Set {
			known[topKey(k)] = true
		}
	}
	var unknown []string
	for k := range raw {
		if !known[k] {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	return unknown
}
