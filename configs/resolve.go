package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// activations are transformers' names (ACT2FN) for the non-linearities that the kernels know.
var activations = map[string]string{
	"silu": string(SiLU), "swish": string(SiLU), "gelu": string(GELU), "gelu_new": string(GELUTanh),
	"gelu_fast": string(GELUTanh), "gelu_pytorch_tanh": string(GELUTanh), "quick_gelu": string(QuickGELU),
	"relu": string(ReLU), "relu2": string(ReLU2),
}

type fieldKind struct {
	name    string
	kind    byte     // i: size, n: number, w: size or 0 for none, t: token id, p: token id or -1 for none, b: bool, s: name out of allowed, l: layer types, r: a rope scaling object
	allowed []string // for s

	optional bool // a size that a family may do without
}

// fields are the names that a family's config section may define, in the order in which they are resolved.
var fields = []fieldKind{
	{name: "vocab", kind: 'i'},
	{name: "dim", kind: 'i'},
	{name: "layers", kind: 'i'},
	{name: "heads", kind: 'i'},
	{name: "kv_heads", kind: 'i'},
	{name: "head_dim", kind: 'i'},
	{name: "ffn", kind: 'i'},
	{name: "context", kind: 'i'},
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
	{name: "scale_head", kind: 'b'},
	{name: "causal", kind: 'b'},
	{name: "norm", kind: 's', allowed: []string{string(RMSNorm), string(LayerNorm)}},
	{name: "mlp", kind: 's', allowed: []string{string(Gated), string(Plain)}},
	{name: "residual", kind: 's', allowed: []string{string(Sequential), string(Normed), string(PostNorm), string(Parallel)}},
	{name: "position", kind: 's', allowed: []string{string(PositionRope), string(PositionLearned), string(PositionALiBi), string(PositionT5)}},
	{name: "activation", kind: 's', allowed: slices.Sorted(maps.Keys(activations))},
	{name: "window", kind: 'w'},
	{name: "window_from", kind: 'n'},
	{name: "layer_types", kind: 'l'},
	{name: "embed_dim", kind: 'n'},
	{name: "position_offset", kind: 'n'},
	{name: "alibi_max", kind: 'n'},
	{name: "alibi_coarse", kind: 'n'},
	{name: "rope_fraction", kind: 'n'},
	{name: "rope_dim", kind: 'n'},
	{name: "rope_theta", kind: 'n'},
	{name: "rope_interleaved", kind: 'b'},
	{name: "rope_context", kind: 'n'},
	{name: "rope_scaling", kind: 'r'},
}

// kindOf is a field's kind, 0 if there is no such field.
func kindOf(name string) byte {
	for _, k := range fields {
		if k.name == name {
			return k.kind
		}
	}
	return 0
}

// Resolve reads a config.json. family names the family where it is not to be taken from model_type.
func Resolve(config []byte, family string) (*Arch, error) {
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	f, err := familyOf(family, raw)
	if err != nil {
		return nil, err
	}
	if _, quantised := lookup(raw, "quantization_config"); quantised {
		return nil, fmt.Errorf("config.json: quantization_config says that the weights are quantised; take the checkpoint from before quantisation")
	}
	f = f.variant(raw)
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

type resolver struct {
	family     *Family
	raw        map[string]any
	numbers    map[string]float64
	bools      map[string]bool // fields, and values that fields chosen by name have
	names      map[string]string
	layerTypes []string
	scaling    RopeScaling
}

func newResolver(f *Family, raw map[string]any) *resolver {
	return &resolver{
		family: f, raw: raw, names: map[string]string{}, bools: map[string]bool{"scale_scores": true, "causal": true},
		numbers: map[string]float64{"padding": -1, "embed_scale": 1, "residual_scale": 1, "logit_scale": 1},
	}
}

func (r *resolver) resolve(k fieldKind) error {
	field, ok := r.family.Config[k.name]
	if !ok {
		return nil
	}
	value, source, err := r.value(k, field)
	switch {
	case err != nil:
		return fmt.Errorf("config.json: %w", err)
	case value == nil && strings.IndexByte("rlp", k.kind) >= 0:
		return nil
	case value == nil:
		return fmt.Errorf("config.json: %s is missing and family %s has no default for it", strings.Join(field.Keys, " or "), r.family.Name)
	}
	if err := r.set(k, field, value); err != nil {
		return fmt.Errorf("config.json: %s %w", source, err)
	}
	return nil
}

// value is what a field is resolved from, and where it was found.
func (r *resolver) value(k fieldKind, field Field) (value any, source string, err error) {
	constant := func(how string, value any) (any, string, error) {
		if s, ok := value.(string); ok && strings.IndexByte("inwb", k.kind) >= 0 {
			value = expression(s)
		}
		return value, fmt.Sprintf("%s (%s %v)", k.name, how, value), nil
	}
	if on, err := r.isOn(field.If); err != nil || !on {
		value, source, _ = constant("without "+field.If, field.Else)
		return value, source, err
	}
	for _, key := range field.Keys {
		v, ok := lookup(r.raw, key)
		if ok {
			return v, key, nil
		}
		if _, there := r.raw[key]; there && field.IfNull != nil {
			return constant("where "+key+" is null", field.IfNull)
		}
	}
	return constant("by default", field.Default)
}

// isOn reads a key that is true or false; no key at all is true, and one that is missing false.
func (r *resolver) isOn(key string) (bool, error) {
	v, ok := lookup(r.raw, key)
	on, isBool := v.(bool)
	if ok && !isBool {
		return false, fmt.Errorf("%s is %s, want true or false", key, literal(v))
	}
	return on || key == "", nil
}

func (r *resolver) set(k fieldKind, field Field, value any) (err error) {
	switch k.kind {
	case 'i':
		r.numbers[k.name], err = r.size(value)
	case 'n':
		r.numbers[k.name], err = r.scaled(value, field.As)
	case 't':
		r.numbers[k.name], err = r.number(value)
		if n := r.numbers[k.name]; err == nil && (n < 0 || n >= r.numbers["vocab"] || n != math.Trunc(n)) {
			err = fmt.Errorf("is %v, want a token id below the vocabulary's %v", n, r.numbers["vocab"])
		}
	case 'w':
		if value != 0 && value != uint64(0) { // a constant of the family: none
			r.numbers[k.name], err = r.size(value)
		}
	case 'p':
		r.numbers[k.name], err = r.padding(value)
	case 'l':
		r.layerTypes, err = layerTypesOf(value)
	case 'b':
		r.bools[k.name], err = r.truth(value)
	case 's':
		name := fmt.Sprint(value)
		if mapped, ok := field.Values[name]; ok {
			name = mapped
		}
		if !slices.Contains(k.allowed, name) {
			return fmt.Errorf("is %q, want one of %s", name, strings.Join(k.allowed, ", "))
		}
		r.names[k.name], r.bools[name] = name, true
	case 'r':
		r.scaling, err = r.ropeScaling(value, field)
	}
	return err
}

// truth is a bool, or the field of that name that was resolved before.
func (r *resolver) truth(value any) (bool, error) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case expression:
		return r.bools[string(v)], nil
	}
	return false, fmt.Errorf("is %s, want true or false", literal(value))
}

// padding is a token's id, counted from the vocabulary's end if it is negative; -1 for none, or one that no text has.
func (r *resolver) padding(value any) (float64, error) {
	if value == "none" {
		return -1, nil
	}
	id, err := r.number(value)
	if id < 0 {
		id += r.numbers["vocab"]
	}
	if !(id >= 0 && id < r.numbers["vocab"]) {
		id = -1
	}
	return id, err
}

// scaled is a number, as it stands or, if as is a product, what that makes of it.
func (r *resolver) scaled(value any, as string) (float64, error) {
	n, err := r.number(value)
	if err != nil || as == "" {
		return n, err
	}
	symbols := maps.Clone(r.numbers)
	symbols["value"] = n
	return evalProduct(as, symbols)
}

// size refuses what no checkpoint can have, before anything is computed from it.
func (r *resolver) size(value any) (float64, error) {
	n, err := r.number(value)
	if _, computed := value.(expression); computed {
		n = math.Trunc(n) // as the classes divide
	}
	if err == nil && (n < 1 || n > 1<<30 || n != math.Trunc(n)) {
		err = fmt.Errorf("is %v, want a whole number from 1 to 2^30", n)
	}
	return n, err
}

// expression is a default that is computed from fields resolved before it.
type expression string

func (r *resolver) number(value any) (float64, error) {
	switch v := value.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case uint64:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case expression:
		return evalProduct(string(v), r.numbers)
	}
	return 0, fmt.Errorf("is %s, want a number", literal(value))
}

// literal is a value as config.json spells it.
func literal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// grouped says that config.json itself says how the KV heads lie.
func (r *resolver) grouped() bool {
	key := r.family.Config["kv_heads"].If
	return key != "" && r.raw[key] == true
}

// logitScale is T5's 1/sqrt(dim) where scale_head says so.
func (r *resolver) logitScale() float64 {
	if r.bools["scale_head"] {
		return r.numbers["logit_scale"] / math.Sqrt(r.numbers["dim"])
	}
	return r.numbers["logit_scale"]
}

func (r *resolver) arch() *Arch {
	n := func(name string) int { return int(r.numbers[name]) }
	r.bools[projected] = n("embed_dim") != 0 && n("embed_dim") != n("dim")
	return &Arch{
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
		ScaleScores: r.bools["scale_scores"], ScaleByLayer: r.bools["scale_by_layer"],
		Causal: r.bools["causal"], Relative: Relative{Buckets: n("relative_buckets"), MaxDistance: n("relative_distance")},
		Norm: Norm(r.names["norm"]), MLP: MLP(r.names["mlp"]), Residual: Residual(r.names["residual"]),
		Position: Position(r.names["position"]), Activation: Activation(activations[r.names["activation"]]),
		Rope:     Rope{Dim: n("rope_dim"), Theta: r.numbers["rope_theta"], RopeScaling: r.scaling},
		EmbedDim: n("embed_dim"), PositionOffset: n("position_offset"),
		ALiBi: ALiBi{Max: r.numbers["alibi_max"], Coarse: r.numbers["alibi_coarse"]},
		bools: r.bools, RopeInterleaved: r.bools["rope_interleaved"],
	}
}

// check refuses sizes that do not go together.
func (a *Arch) check() error {
	for _, s := range a.Sites() {
		if kv := a.SiteKVHeads(s); a.Heads%kv != 0 {
			return fmt.Errorf("config.json: %d kv heads do not divide %d heads (%s attention)", kv, a.Heads, s)
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
		return a.Rope.check(a.HeadDim)
	case PositionALiBi:
		return a.ALiBi.check()
	case PositionT5:
		return a.Relative.check()
	}
	return nil
}

// check refuses ranges of distances that do not widen: the logarithm's base would be 1 or less.
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

// baseKeys are the keys of transformers' base configuration class, and what save_pretrained adds: none changes a forward
// pass without sampling.
var baseKeys = strings.Fields(`_attn_implementation _attn_implementation_autoset _commit_hash _from_model_config
	_name_or_path architectures auto_map bos_token_id chunk_size_feed_forward decoder_start_token_id dtype early_stopping
	eos_token_id finetuning_task id2label initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length
	min_length model_type num_beams output_attentions output_hidden_states pad_token_id problem_type return_dict
	task_specific_params tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers_version use_bfloat16
	use_cache`)

// topKey is the first key of a dotted path.
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
