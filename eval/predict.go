package eval

import (
	"fmt"
	"slices"

	"gqa/configs"
	"gqa/configs/hardware"
)

// PredictOptions determine what Predict predicts.
type PredictOptions struct {
	Batches   []int  // sequences decoded together
	Contexts  []int  // tokens in the cache, and in that of cross-attention, when a step is timed
	PromptLen int    // tokens per sequence of the prefill; 0 for no prefill
	Weights   string // f32, bf16 or f16
	Cache     string // f32, bf16, f16, int8 or int4
}

// Prediction is what a model with a number of groups is expected to take on some hardware. Keys are those of Latency and
// KVRow.
type Prediction struct {
	Shape           string  `json:"shape"`
	Hardware        string  `json:"hardware"`
	Groups          int     `json:"groups"` // 0 for latent attention
	Latent          bool    `json:"latent,omitempty"`
	KVRank          int     `json:"kv_rank,omitempty"`
	RopeDim         int     `json:"rope_dim,omitempty"`
	Published       bool    `json:"published"`      // the model has this number
	GroupSize       int     `json:"group_size"`     // heads per group
	CommonKernels   bool    `json:"common_kernels"` // see CommonGroupSizes; for latent attention, FlashMLA's sizes
	TensorParallel  []int   `json:"tensor_parallel"`
	Batch           int     `json:"batch"`
	Context         int     `json:"context"`
	PromptLen       int     `json:"prompt_len"`
	PrefillMS       float64 `json:"prefill_ms"` // for Batch prompts of PromptLen tokens; 0 if there is no prefill
	DecodeMSPerStep float64 `json:"decode_ms_per_step"`
	DecodeMSPerTok  float64 `json:"decode_ms_per_token"`
	TokensPerS      float64 `json:"tokens_per_s"`
	KVBytesPerToken int64   `json:"kv_bytes_per_token"`
	CrossBytesToken int64   `json:"cross_kv_bytes_per_token,omitempty"`
	KVBytes         int64   `json:"kv_bytes"`
	WeightBytes     int64   `json:"weight_bytes"` // in memory
	MaxBatch        int64   `json:"max_batch"`    // sequences at Context that fit in the memory beside the weights
	Fits            bool    `json:"fits"`         // Batch is at most MaxBatch
}

// CommonGroupSizes are the numbers of heads per group for which decode kernels of serving software are usually compiled.
// FlashInfer's, for example, are for 1, 2, 3, 4 and 8, and refuse others.
var CommonGroupSizes = []int{1, 2, 4, 8}

// usableMemory is the share of a device's memory that weights and cache may take. The rest is for activations and the
// runtime; vLLM leaves as much by default.
const usableMemory = 0.9

// An element is the format of a number in memory.
type element struct {
	bits     int
	computed string // the format of the arithmetic
}

// elements are the formats of weights and, all of them, of a cache.
var elements = map[string]element{
	"f32": {32, "f32"}, "bf16": {16, "bf16"}, "f16": {16, "f16"}, "int8": {8, "bf16"}, "int4": {4, "bf16"},
}

// bytes returns the size of n numbers.
func (e element) bytes(n float64) float64 { return n * float64(e.bits) / 8 }

// Predict returns what a shape is expected to take on some hardware, for every legal number of groups, largest first,
// within every batch and context. A model that can be converted to latent attention has some of its sizes in between. It runs nothing.
func Predict(s Shape, h hardware.Hardware, o PredictOptions) ([]Prediction, error) {
	p, err := newPredictor(s, h, o)
	if err != nil {
		return nil, err
	}
	var all []Prediction
	for _, batch := range o.Batches {
		for _, context := range o.Contexts {
			var rows []Prediction
			for _, groups := range s.Groups() {
				rows = append(rows, p.predict(groups, batch, context, o.PromptLen))
			}
			for _, q := range p.latents {
				rows = append(rows, q.predict(latent, batch, context, o.PromptLen))
			}
			bySize(rows, func(r Prediction) int64 { return r.KVBytesPerToken })
			all = append(all, rows...)
		}
	}
	return all, nil
}

func (p *predictor) predict(groups, batch, context, prompt int) Prediction {
	s := p.shape
	weights, perSequence := p.weightBytes(groups), cacheBytes(s, groups, context, 1, p.row)
	r := Prediction{
		Shape: s.Name, Hardware: p.hardware.Name, Groups: groups, Published: groups == s.KVHeads, Batch: batch, Context: context, PromptLen: prompt,
		DecodeMSPerStep: 1000 * p.seconds(p.step(groups, batch, context)),
		KVBytesPerToken: kvBytes(s, groups, 1, 1, p.row), KVBytes: perSequence * int64(batch), WeightBytes: int64(weights),
		MaxBatch: int64(max(0, usableMemory*p.hardware.MemoryMiB*(1<<20)-weights) / float64(perSequence)),
	}
	if groups == latent { // every device needs all of it
		r.Latent, r.KVRank, r.RopeDim, r.GroupSize, r.TensorParallel = true, s.KVRank, s.RopeDim, s.Heads, []int{1}
		r.CommonKernels = s.KVRank == configs.KernelRank && s.RopeDim == configs.KernelRopeDim
	} else {
		r.GroupSize, r.TensorParallel = s.Heads/groups, divisors(groups)
		r.CommonKernels = slices.Contains(CommonGroupSizes, r.GroupSize)
	}
	if s.Cross {
		r.CrossBytesToken = r.KVBytesPerToken
	}
	if prompt > 0 {
		r.PrefillMS = 1000 * p.seconds(p.prefill(groups, batch, prompt))
	}
	r.DecodeMSPerTok = r.DecodeMSPerStep / float64(batch)
	r.TokensPerS = 1000 / r.DecodeMSPerTok
	r.Fits = int64(batch) <= r.MaxBatch
	return r
}

// divisors returns the numbers that divide n, smallest first.
func divisors(n int) (all []int) {
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			all = append(all, d)
		}
	}
	return all
}

// newPredictor checks all arguments, so that nothing can fail or overflow after it.
func newPredictor(s Shape, h hardware.Hardware, o PredictOptions) (*predictor, error) {
	if err := s.checkHeads(); err != nil {
		return nil, err
	}
	row, err := KVOptions{KVDType: o.Cache}.row()
	p := &predictor{shape: s, hardware: h, weights: elements[o.Weights], cache: elements[o.Cache], row: row}
	if err != nil || p.weights.bits < 16 || p.cache.bits == 0 {
		return nil, fmt.Errorf("weights in %q and a KV cache in %q: want f32, bf16 or f16, and for the cache also int8 or int4", o.Weights, o.Cache)
	}
	for _, dtype := range []string{p.weights.computed, p.cache.computed} {
		if h.FLOPs[dtype] == 0 {
			return nil, fmt.Errorf("hardware %s has no flops for %s; choose another data type", h.Name, dtype)
		}
	}
	if len(o.Batches) == 0 || len(o.Contexts) == 0 || o.PromptLen < 0 {
		return nil, fmt.Errorf("batches %v, contexts %v, prompt-len %d: want one or more of each, and a length of at least 0", o.Batches, o.Contexts, o.PromptLen)
	}
	options := KVOptions{Context: max(slices.Max(o.Contexts), o.PromptLen), KVBytes: 4, WeightBytes: 4, KVDType: o.Cache}
	for _, options.Batch = range o.Batches {
		if err := s.checkOptions(options); err != nil {
			return nil, err
		}
	}
	for _, c := range s.conversions(options) {
		q := *p
		q.shape = c
		p.latents = append(p.latents, &q)
	}
	if slices.Min(o.Contexts) < 1 {
		return nil, fmt.Errorf("context %d: want at least 1", slices.Min(o.Contexts))
	}
	return p, s.checkPositions(slices.Max(o.Contexts), o.PromptLen)
}

// checkPositions returns an error if the shape has no positions for a prompt, or for a context and the token behind it.
func (s Shape) checkPositions(context, prompt int) error {
	switch {
	case s.Positions == 0:
		return nil
	case context >= s.Positions:
		return fmt.Errorf("context %d and a token behind it: %d positions requested, but %s has %d", context, context+1, s.Name, s.Positions)
	case prompt > s.Positions:
		return fmt.Errorf("prompt-len: %d positions requested, but %s has %d", prompt, s.Name, s.Positions)
	}
	return nil
}

// predictor computes what a shape costs on some hardware.
type predictor struct {
	shape          Shape
	hardware       hardware.Hardware
	weights, cache element
	row            rowSize // of the cache
	latents        []*predictor
}

// cost is what a pass through the model moves and computes.
type cost struct {
	bytes     float64 // read from memory
	products  float64 // floating-point operations of products with weights
	attention float64 // floating-point operations of attention
	layers    int
}

// seconds returns the time of a pass: of reading, of the arithmetic that is not done meanwhile, and of what every layer
// takes besides. A roofline (Williams et al. 2009) is the case that all overlaps and nothing else takes time.
func (p *predictor) seconds(c cost) float64 {
	h, a := p.hardware, p.hardware.Achieved
	reading := c.bytes / (h.Bandwidth * a.Bandwidth)
	computing := c.products/(h.FLOPs[p.weights.computed]*a.Products) + c.attention/(h.FLOPs[p.cache.computed]*a.Attention)
	return max(reading, computing) + (1-a.Overlap)*min(reading, computing) + float64(c.layers)*a.LayerUS*1e-6
}

// step returns the cost of decoding one token of each of batch sequences after context others.
func (p *predictor) step(groups, batch, context int) cost {
	s, n := p.shape, float64(batch)
	read := p.stepWeights(groups)
	return cost{
		bytes:     p.weights.bytes(read) + float64(cacheBytes(s, groups, context, batch, p.row)),
		products:  2 * n * read,
		attention: n * s.attention(s.cachedWidths(groups), 1, float64(s.cached(context))) * s.attentions(),
		layers:    s.Layers,
	}
}

// prefill returns the cost of what precedes the first token of batch sequences: a pass over prompts, or an encoder's pass
// and a step after it. An encoder is taken to be as deep as the decoder, and to keep all its heads.
func (p *predictor) prefill(groups, batch, prompt int) cost {
	s, n, t := p.shape, float64(batch), float64(prompt)
	if !s.Cross {
		c := p.step(groups, batch, 1)
		layers := p.stepWeights(groups) - s.head()
		c.products += 2 * n * (t - 1) * layers
		window := float64(s.cached(prompt))
		c.attention = n * s.attention(s.expandedWidths(groups), 1, window*(t-window/2))
		return c
	}
	c := p.step(groups, batch, prompt)
	projections := s.crossKV(groups)
	c.bytes += p.weights.bytes(s.encoder() + projections)
	c.products += 2 * n * t * (s.encoder() + projections)
	c.attention += n * s.attention(s.expandedWidths(groups), t, t)
	c.layers += s.Layers
	return c
}

// weightBytes returns the size of all weights in memory.
func (p *predictor) weightBytes(groups int) float64 {
	n := float64(p.shape.params(groups))
	if p.shape.Cross {
		n += p.shape.encoder()
	}
	return p.weights.bytes(n)
}

// stepWeights returns the number of weights that a decode step reads: no table of embeddings, unless it is also the head, and
// none that computed the keys and values of an encoder's output.
func (p *predictor) stepWeights(groups int) float64 {
	s := p.shape
	n := float64(s.params(groups)) - s.crossKV(groups)
	if !s.Tied {
		n -= s.head()
	}
	return n
}

// head returns the number of weights of the output layer, and of the table of embeddings.
func (s Shape) head() float64 { return float64(s.Vocab) * float64(s.Dim) }

// crossKV returns the number of weights that compute the keys and values of an encoder's output.
func (s Shape) crossKV(groups int) float64 {
	if !s.Cross {
		return 0
	}
	return 2 * float64(s.Layers) * float64(groups) * float64(s.HeadDim) * float64(s.Dim)
}

// encoder returns the number of weights in the layers of an encoder like the decoder.
func (s Shape) encoder() float64 {
	like := s
	like.Cross, like.Vocab = false, 0
	return float64(like.params(s.Heads))
}

// attention returns the operations of queries queries to keys keys each, in every layer's heads: a multiplication and an
// addition per number, for scores and for sums. widths is the numbers of a key and of a value together.
func (s Shape) attention(widths int, queries, keys float64) float64 {
	return 2 * float64(s.Layers) * float64(s.Heads) * float64(widths) * queries * keys
}

// expandedWidths returns the numbers of a head's key and value together.
func (s Shape) expandedWidths(groups int) int {
	if groups == latent {
		return s.nopeDim() + s.RopeDim + s.HeadDim
	}
	return 2 * s.HeadDim
}

// cachedWidths is expandedWidths for a decode step, in which the latent is the key, with the rotary key, and the value of every head.
func (s Shape) cachedWidths(groups int) int {
	if groups == latent {
		return 2*s.KVRank + s.RopeDim
	}
	return s.expandedWidths(groups)
}

// attentions returns the number of attention modules in a layer.
func (s Shape) attentions() float64 {
	if s.Cross {
		return 2
	}
	return 1
}

// cached returns the number of tokens that the cache holds at a context.
func (s Shape) cached(context int) int {
	if s.Window > 0 {
		return min(context, s.Window)
	}
	return context
}
