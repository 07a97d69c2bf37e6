package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Attention is the kind of attention of a decoder's layers.
type Attention string

// Kinds of attention.
const (
	GroupedAttention Attention = "grouped" // groups of heads share a key and a value (Ainslie et al., arXiv 2305.13245)
	LatentAttention  Attention = "latent"  // keys and values of all heads come from one latent (DeepSeek-V2, arXiv 2405.04434, section 2.1)
)

// Latent holds the sizes of latent attention. A token's latent and the one rotary key that all heads share are what a cache holds.
// Each head has queries and keys of NopeDim numbers without positions, followed by RopeDim rotary ones.
type Latent struct {
	Rank      int // width of the latent
	QueryRank int // width of the latent that queries come from; 0: they are projected directly
	NopeDim   int // may be 0
	RopeDim   int
	ValueDim  int       // width of a head's values
	NormEps   float64   // of the norms of latents
	InvFreq   []float64 // of each rotary plane; nil: those of Arch.Rope
}

// HeadDim returns the width of a head's queries and keys.
func (l Latent) HeadDim() int { return l.NopeDim + l.RopeDim }

// CacheDim returns the number of numbers that a cache holds for a token.
func (l Latent) CacheDim() int { return l.Rank + l.RopeDim }

// IsLatent reports whether the attention of the decoder's layers is latent.
func (a *Arch) IsLatent() bool { return a.Attention == LatentAttention }

// ValueDim returns the width of a head's values.
func (a *Arch) ValueDim() int {
	if a.IsLatent() {
		return a.Latent.ValueDim
	}
	return a.HeadDim
}

// CacheRows returns how many rows a cache holds for a token in a decoder layer, and how many numbers each has: a key and a value for
// each KV head, or a latent with its rotary key.
func (a *Arch) CacheRows(layer int) (rows, width int) {
	if a.IsLatent() {
		return 1, a.At(layer).Latent.CacheDim()
	}
	return 2 * a.LayerKV(layer), a.HeadDim
}

// lowRankQueries is the condition that queries come from a latent of their own.
const lowRankQueries = "low_rank_queries"

// LatentSuffix follows the family's model_type in a config.json of the own layout of latent attention, and LatentKey is the key that
// describes it; see docs/formats.md.
const (
	LatentSuffix = "_mla"
	LatentKey    = "mla"
)

// Keys of the object under LatentKey.
const (
	invFreqKey      = "inv_freq"
	softmaxScaleKey = "softmax_scale"
	ranksKey        = "kv_lora_rank_per_layer"
)

// latent returns the family with latent attention in the own layout instead of its own attention, if config.json has LatentKey.
func (f *Family) latent(raw map[string]any) (*Family, error) {
	object, ok := raw[LatentKey]
	if modelType, _ := raw["model_type"].(string); !ok {
		if strings.HasSuffix(modelType, LatentSuffix) {
			return nil, fmt.Errorf("config.json: model_type is %q, but there is no %q", modelType, LatentKey)
		}
		return f, nil
	}
	keys, ok := object.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("config.json: %s is %s, want an object", LatentKey, literal(object))
	}
	for key := range keys {
		if !slices.Contains([]string{invFreqKey, softmaxScaleKey, ranksKey}, key) {
			return nil, fmt.Errorf("config.json: %s has an unknown key %q", LatentKey, key)
		}
	}
	g := *f
	g.Config = maps.Clone(f.Config)
	for _, name := range []string{"head_dim", "rope_scaling", "window_rope_theta", "window_rope_scaling", "clip_qkv", "qk_norm", "score_scale", "scale_by_layer"} {
		delete(g.Config, name)
	}
	maps.Copy(g.Config, map[string]Field{
		"attention":        {Default: string(LatentAttention)},
		"kv_heads":         {Default: "heads"},
		"kv_rank":          {Keys: []string{"kv_lora_rank"}},
		"query_rank":       {Keys: []string{"q_lora_rank"}, Default: uint64(0)},
		"nope_dim":         {Keys: []string{"qk_nope_head_dim"}},
		"rope_dim":         {Keys: []string{"qk_rope_head_dim"}},
		"value_dim":        {Keys: []string{"v_head_dim"}},
		"rope_theta":       {Default: uint64(10000)}, // not used: the frequencies are given
		"rope_interleaved": {Default: true},
	})
	g.Neutral = append(slices.Clone(f.Neutral), LatentKey)
	for _, field := range f.Config {
		for _, key := range field.Keys {
			g.Neutral = append(g.Neutral, topKey(key))
		}
	}
	g.Layer = f.latentLayer()
	g.Attention, g.Groups = QKV{Layout: Separate}, Groups{Key: f.Groups.Key, Layout: Separate}
	g.Neighbours, g.Rewrite, g.Recast = nil, nil, nil
	g.GGUF = &GGUF{Why: "llama.cpp has no latent attention without a norm on the latent"}
	return &g, nil
}

// latentLayer returns the tensors of a layer with latent attention in the own layout. They are in the module of the output projection.
func (f *Family) latentLayer() map[Role]TensorEntry {
	layer, output := maps.Clone(f.Layer), f.Layer[O].Name
	for _, role := range []Role{Q, K, V, FusedQKV, QNorm, KNorm} {
		delete(layer, role)
	}
	module := output[:strings.LastIndexByte(output, '.')+1]
	for role, e := range map[Role]TensorEntry{
		QHeads: {Name: "q_proj", Shape: []string{"q_dim", "dim"}, Unless: lowRankQueries, Bias: stored},
		QA:     {Name: "q_a_proj", Shape: []string{"query_rank", "dim"}, When: lowRankQueries, Bias: stored},
		QB:     {Name: "q_b_proj", Shape: []string{"q_dim", "query_rank"}, When: lowRankQueries, Bias: stored},
		KVA:    {Name: "kv_a_proj_with_mqa", Shape: []string{"latent_dim", "dim"}, Bias: stored},
		KVB:    {Name: "kv_b_proj", Shape: []string{"kv_b_dim", "kv_rank"}},
		O:      {Name: "o_proj", Shape: []string{"dim", "value_heads_dim"}, Bias: stored},
	} {
		e.Name = module + e.Name
		layer[role] = e
	}
	return layer
}

// readLatent sets what the own layout says beyond the fields.
func (a *Arch) readLatent(raw map[string]any) error {
	keys, own := raw[LatentKey].(map[string]any)
	if !own || !a.IsLatent() {
		return nil
	}
	scale, ok := keys[softmaxScaleKey].(float64)
	if !ok || !(scale > 0) {
		return fmt.Errorf("config.json: %s.%s is %s, want a positive number", LatentKey, softmaxScaleKey, literal(keys[softmaxScaleKey]))
	}
	a.ScoreScale = scale
	if err := a.readInvFreq(keys[invFreqKey]); err != nil {
		return fmt.Errorf("config.json: %s.%s %w", LatentKey, invFreqKey, err)
	}
	if err := a.readRanks(keys[ranksKey]); err != nil {
		return fmt.Errorf("config.json: %s.%s %w", LatentKey, ranksKey, err)
	}
	return nil
}

// readInvFreq reads the frequencies of all layers, or those of each.
func (a *Arch) readInvFreq(value any) error {
	list, _ := value.([]any)
	if len(list) == 0 || isNumber(list[0]) {
		freqs, err := frequencies(value)
		if err == nil && 2*len(freqs) != a.Latent.RopeDim {
			err = fmt.Errorf("has %d numbers, want %d: one for each of the planes of %d dims", len(freqs), a.Latent.RopeDim/2, a.Latent.RopeDim)
		}
		a.Latent.InvFreq = freqs
		return err
	}
	if len(list) != a.Layers {
		return fmt.Errorf("has %d lists, want %d, one for each layer", len(list), a.Layers)
	}
	most := 0
	a.eachLatent()
	for i, of := range list {
		freqs, err := frequencies(of)
		if err != nil {
			return fmt.Errorf("for layer %d %w", i, err)
		}
		a.LatentLayers[i].InvFreq, a.LatentLayers[i].RopeDim = freqs, 2*len(freqs)
		most = max(most, 2*len(freqs))
	}
	if most != a.Latent.RopeDim {
		return fmt.Errorf("has %d numbers in its longest list, want %d: one for each of the planes of qk_rope_head_dim %d", most/2, a.Latent.RopeDim/2, a.Latent.RopeDim)
	}
	return nil
}

// eachLatent gives every layer sizes of its own.
func (a *Arch) eachLatent() {
	if a.LatentLayers == nil {
		a.LatentLayers = slices.Repeat([]Latent{a.Latent}, a.Layers)
	}
}

func isNumber(v any) bool {
	_, ok := v.(float64)
	return ok
}

// frequencies reads a list of inverse frequencies.
func frequencies(value any) ([]float64, error) {
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("is %s, want a list of numbers", literal(value))
	}
	freqs := make([]float64, len(list))
	for i, v := range list {
		f, ok := v.(float64)
		if !ok || f < 0 || f > math.Pi {
			return nil, fmt.Errorf("has %s, want numbers from 0 to π", literal(v))
		}
		freqs[i] = f
	}
	return freqs, nil
}

// readRanks reads the ranks of the layers, if they differ.
func (a *Arch) readRanks(value any) error {
	if value == nil {
		return nil
	}
	list, _ := value.([]any)
	if len(list) != a.Layers {
		return fmt.Errorf("is %s, want a list of %d numbers, one for each layer", literal(value), a.Layers)
	}
	a.eachLatent()
	most := 0
	for i, v := range list {
		n, _ := v.(float64)
		if n < 1 || n > float64(a.Latent.Rank) || n != math.Trunc(n) {
			return fmt.Errorf("has %s for layer %d, want a whole number from 1 to kv_lora_rank %d", literal(v), i, a.Latent.Rank)
		}
		a.LatentLayers[i].Rank = int(n)
		most = max(most, int(n))
	}
	if most != a.Latent.Rank {
		return fmt.Errorf("has %d as its largest number, want kv_lora_rank %d", most, a.Latent.Rank)
	}
	return nil
}

// checkLatent rejects sizes that latent attention cannot have.
func (a *Arch) checkLatent() error {
	l := a.Latent
	switch {
	case a.Position != PositionRope || a.EncoderLayers > 0 || !a.Causal:
		return fmt.Errorf("config.json: latent attention is for decoders with rotary positions, and this one of family %s is none", a.Family.Name)
	case a.KVHeads != a.Heads:
		return fmt.Errorf("config.json: %d kv heads for %d heads: latent attention gives each head a key and a value of its own", a.KVHeads, a.Heads)
	case l.RopeDim < 2 || l.RopeDim%2 != 0 || l.RopeDim != a.Rope.Dim:
		return fmt.Errorf("config.json: a rotary key of %d dims, want an even number, as they go in pairs", a.Rope.Dim)
	case l.InvFreq == nil && a.LatentLayers == nil && l.NopeDim == 0:
		return errors.New("config.json: queries and keys have no dims without positions, want at least one")
	}
	for _, of := range append([]Latent{l}, a.LatentLayers...) {
		if float64(a.Heads)*float64(of.HeadDim()+of.ValueDim)*float64(max(of.Rank, of.QueryRank)) > largestMatrix {
			return fmt.Errorf("config.json: the matrix of the latent of %d numbers would have more numbers than any file holds", of.Rank)
		}
	}
	return nil
}

// LatentChanges returns the changes that make config, a's config.json, that of latent attention in the own layout: key -> value,
// nil for a key to be removed. layers are the sizes of each layer, which have frequencies and differ only in these, in RopeDim and in Rank;
// scale is the factor for scores.
func (a *Arch) LatentChanges(config []byte, layers []Latent, scale float64) (map[string]any, error) {
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	modelType, _ := raw["model_type"].(string)
	if modelType == "" {
		modelType = a.Family.ModelTypes[0]
	}
	most := layers[0]
	ranks, freqs := make([]int, len(layers)), make([][]float64, len(layers))
	for i, l := range layers {
		most.Rank, most.RopeDim = max(most.Rank, l.Rank), max(most.RopeDim, l.RopeDim)
		ranks[i], freqs[i] = l.Rank, l.InvFreq
	}
	object := map[string]any{softmaxScaleKey: scale, invFreqKey: freqs}
	if !slices.ContainsFunc(freqs, func(f []float64) bool { return !slices.Equal(f, freqs[0]) }) {
		object[invFreqKey] = freqs[0]
	}
	if slices.Min(ranks) < most.Rank {
		object[ranksKey] = ranks
	}
	changes := map[string]any{
		"model_type": strings.TrimSuffix(modelType, LatentSuffix) + LatentSuffix, "architectures": nil, "auto_map": nil, LayersKey: nil, LatentKey: object,
		"kv_lora_rank": most.Rank, "qk_rope_head_dim": most.RopeDim, "qk_nope_head_dim": most.NopeDim, "v_head_dim": most.ValueDim, "q_lora_rank": nil,
	}
	if most.QueryRank > 0 {
		changes["q_lora_rank"] = most.QueryRank
	}
	if key := a.Family.Groups.Key; key != "" {
		changes[key] = nil
	}
	plain, err := json.Marshal(changes) // as a config.json has numbers and lists
	if err != nil {
		return nil, err
	}
	return changes, json.Unmarshal(plain, &changes)
}
