package eval

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"gqa/configs"
	"gqa/internal/cpu/pool"
	"gqa/internal/device"
	"gqa/internal/engine/infer"
	"gqa/internal/ops"
)

// LatencyOptions determine what is timed.
type LatencyOptions struct {
	Batch     int // sequences decoded together
	Context   int // tokens in the cache, and in that of cross-attention, when a step is timed
	PromptLen int // tokens per sequence of the timed prefill; 0 for no prefill
}

// Cell is what is timed of one model.
type Cell struct {
	Name  string // of the model
	Model *Model
	KV    KVCache // which the model need not have been loaded with
	LatencyOptions
}

// Latency is the cost of prefill and decode. Times are medians over rounds, with 95% intervals; see [Rounds].
type Latency struct {
	Model           string  `json:"model,omitempty"`
	Batch           int     `json:"batch"`
	Context         int     `json:"context"`
	KVHeads         int     `json:"kv_heads"` // 0 for latent attention
	KVDType         string  `json:"kv_dtype"`
	Window          int     `json:"window,omitempty"` // of the cache; 0: all tokens
	Sinks           int     `json:"sinks,omitempty"`
	Device          string  `json:"device,omitempty"` // empty for the processor
	Threads         int     `json:"threads"`          // of the processor
	PromptLen       int     `json:"prompt_len"`
	PrefillMS       float64 `json:"prefill_ms"` // for Batch prompts of PromptLen tokens
	PrefillLow      float64 `json:"prefill_ms_low"`
	PrefillHigh     float64 `json:"prefill_ms_high"`
	DecodeMSPerStep float64 `json:"decode_ms_per_step"` // for one token of each sequence
	DecodeLow       float64 `json:"decode_ms_per_step_low"`
	DecodeHigh      float64 `json:"decode_ms_per_step_high"`
	DecodeMSPerTok  float64 `json:"decode_ms_per_token"`
	TokensPerS      float64 `json:"tokens_per_s"`
	Rounds          int     `json:"rounds"`
	KVBytesPerToken int64   `json:"kv_bytes_per_token"`                 // for one sequence, all layers
	CrossBytesToken int64   `json:"cross_kv_bytes_per_token,omitempty"` // in addition, per token that an encoder has read
	KVBytes         int64   `json:"kv_bytes"`                           // read by one step: Batch × Context tokens or those of the window, and a source of Context
	WeightBytes     int64   `json:"weight_bytes"`                       // read by one step
	RooflineMS      float64 `json:"roofline_ms"`                        // least time of a step that reads from memory; 0: not known, as of a GPU
	RooflineShare   float64 `json:"roofline_share"`                     // RooflineMS / DecodeMSPerStep
	// Speedup compares the decode, or the prefill if there is none, with that of the first cell of the same batch and context; nil for
	// that cell itself.
	Speedup *Ratio   `json:"speedup,omitempty"`
	Notes   []string `json:"notes,omitempty"` // those of Latencies, if there is one cell

	Load float64 `json:"-"` // share of the processors' time that others used meanwhile
	// DecodeRounds and PrefillRounds are the times of a step and of the prefill in each round. Those of cells that were timed in turn
	// can be compared in pairs.
	DecodeRounds  Rounds `json:"-"`
	PrefillRounds Rounds `json:"-"`

	weights device.Format
	kept    infer.Kept
	encodes bool // an encoder without a decoder
}

// MeasureLatency is like [MeasureLatencies] for one model, with the cache that it was loaded with and the default timing.
func MeasureLatency(ctx context.Context, m *Model, machine Machine, o LatencyOptions) (*Latency, error) {
	l, err := MeasureLatencies(ctx, []Cell{{Model: m, KV: m.kv, LatencyOptions: o}}, machine, Timing{})
	if err != nil {
		return nil, err
	}
	return l.Cells[0], nil
}

// Latencies are the latencies of cells that were timed in turn.
type Latencies struct {
	Cells []*Latency `json:"cells"`
	// Notes say what else used the processor meanwhile, and whether times are uncertain.
	Notes []string `json:"notes,omitempty"`
}

// MeasureLatencies times prefill and decode of each cell. In each round every cell is timed once, in turn, so that what slows down the
// machine for a while slows down all of them. For the decode, caches are filled without a prefill; all are in memory at the same
// time. For a model that does not decode only the prefill is timed: one pass over the prompts. machine is the processor's, or the
// zero Machine if it is not known.
func MeasureLatencies(ctx context.Context, cells []Cell, machine Machine, t Timing) (*Latencies, error) {
	all, runs, err := prepare(ctx, cells)
	defer func() {
		for _, r := range runs {
			r.free()
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, c := range cells {
		c.Model.Until(ctx)
		defer c.Model.Until(context.Background())
	}
	before := readCPUTimes()
	if err := timeInTurn(ctx, runs, t.orDefault()); err != nil {
		return nil, err
	}
	after := readCPUTimes()
	l := &Latencies{Cells: all, Notes: append(loadNotes(before, after), spreadNotes(runs)...)}
	for i, c := range cells {
		all[i].Load = load(before, after)
		all[i].finish(machine, c.Model.stepFLOPs(c.Batch, all[i].kept.Tokens(c.Context)))
		all[i].compare(all[slices.IndexFunc(all, all[i].comparable)])
	}
	if len(all) == 1 {
		all[0].Notes = l.Notes
	}
	return l, nil
}

// comparable reports whether another cell does the same work for the user.
func (l *Latency) comparable(other *Latency) bool {
	return l.Batch == other.Batch && l.Context == other.Context && l.encodes == other.encodes
}

// compare sets the speed compared with that of another cell, unless it is the cell itself.
func (l *Latency) compare(base *Latency) {
	if l == base {
		return
	}
	r := l.PrefillRounds.Faster(base.PrefillRounds)
	if !l.encodes {
		r = l.DecodeRounds.Faster(base.DecodeRounds)
	}
	l.Speedup = &r
}

// prepare checks the cells, and returns what is known before they are timed and what is to be timed, which adds to it. What is to be timed
// must be freed even if there is an error.
func prepare(ctx context.Context, cells []Cell) (all []*Latency, runs []*timed, err error) {
	total := 0.0
	for _, c := range cells {
		bytes, err := c.Check()
		if err != nil && len(cells) > 1 && c.Name != "" {
			err = fmt.Errorf("%s: %w", c.Name, err)
		}
		if err != nil {
			return nil, nil, err
		}
		total += bytes
	}
	if len(cells) == 0 {
		return nil, nil, nil
	}
	if err := cells[0].Model.CheckMemory(fmt.Sprintf("the KV caches of %d cells, which are timed in turn, together", len(cells)), total); err != nil {
		return nil, nil, err
	}
	for _, c := range cells {
		l := c.known()
		own, err := c.runs(ctx, l)
		all, runs = append(all, l), append(runs, own...)
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return nil, runs, err
		}
	}
	return all, runs, nil
}

// runs returns what is to be timed of a cell, which adds its rounds to l.
func (c Cell) runs(ctx context.Context, l *Latency) (runs []*timed, err error) {
	ids := randomIDs(c.Batch*max(1, c.PromptLen), c.Model.Arch.Vocab)
	if !l.encodes {
		cache, step, err := decodeStep(ctx, c, ids[:c.Batch])
		if err != nil {
			return nil, err
		}
		runs = append(runs, &timed{run: step, rounds: &l.DecodeRounds, free: func() { c.Model.Free(cache) }})
	}
	if c.PromptLen > 0 {
		run, free, err := prefill(c, ids)
		if err != nil {
			return runs, err
		}
		runs = append(runs, &timed{run: run, rounds: &l.PrefillRounds, free: free})
	}
	for _, r := range runs {
		r.warm, r.share = c.Model.warmUps(), 1/float64(len(runs))
	}
	return runs, nil
}

// warmUps returns how many runs are not counted: on a device that repeats steps, it records the second.
func (m *Model) warmUps() int {
	if m.DeviceName() != "" {
		return 2
	}
	return 1
}

// known returns what is known of a latency before it is measured.
func (c Cell) known() *Latency {
	m := c.Model
	kept, _ := c.KV.kept() // checked
	own, cross := m.kvBytes(kept)
	return &Latency{
		Model: c.Name, Batch: c.Batch, Context: c.Context, KVHeads: cachedHeads(m.Arch), KVDType: formatNames[kept.Format],
		Window: kept.Window, Sinks: kept.Sinks, Device: m.DeviceName(), Threads: pool.Threads(), PromptLen: c.PromptLen,
		KVBytesPerToken: own, CrossBytesToken: cross, KVBytes: int64(m.cacheBytes(kept, c.Batch, c.Context)),
		WeightBytes: int64(m.Weights.Size()) * m.readPerStep(), weights: m.Weights, kept: kept, encodes: !m.Arch.Causal,
	}
}

// cachedHeads returns the number of KV heads whose keys and values are in a cache: none of latent attention.
func cachedHeads(a *configs.Arch) int {
	if a.IsLatent() {
		return latent
	}
	return a.KVHeads
}

// finish derives all figures from the rounds.
func (l *Latency) finish(machine Machine, flops float64) {
	l.Rounds = max(len(l.DecodeRounds), len(l.PrefillRounds))
	l.PrefillMS = l.PrefillRounds.Median()
	l.PrefillLow, l.PrefillHigh = l.PrefillRounds.Interval()
	if l.encodes {
		return
	}
	l.DecodeMSPerStep = l.DecodeRounds.Median()
	l.DecodeLow, l.DecodeHigh = l.DecodeRounds.Interval()
	l.DecodeMSPerTok = l.DecodeMSPerStep / float64(l.Batch)
	l.TokensPerS = 1000 / l.DecodeMSPerTok
	if l.Device == "" && machine.Bandwidth > 0 {
		f := infer.Formats{Weights: l.weights, Cache: l.kept.Format}
		l.RooflineMS = 1000 * machine.with(f).roofline(float64(l.WeightBytes+l.KVBytes), flops)
		l.RooflineShare = l.RooflineMS / l.DecodeMSPerStep
	}
}

// Figures are those of a report, by their names there.
func (l *Latency) Figures() map[string]Figure {
	exact := Estimate{Value: float64(l.KVBytesPerToken), N: 1}
	return map[string]Figure{
		"decode_ms_per_token": l.DecodeRounds.figure(l.Batch, l.DecodeMSPerStep, l.DecodeLow, l.DecodeHigh),
		"prefill_ms":          l.PrefillRounds.figure(1, l.PrefillMS, l.PrefillLow, l.PrefillHigh),
		"kv_bytes_per_token":  {Estimate: exact, Unit: "bytes", Better: "lower"},
	}
}

// Check returns the size of the cell's caches in bytes, or an error if it cannot be timed.
func (c Cell) Check() (bytes float64, err error) {
	m := c.Model
	if c.Batch < 1 || c.Context < 1 || c.PromptLen < 0 {
		return 0, fmt.Errorf("batch is %d, context %d, prompt-len %d: want 1, 1, 0 or more", c.Batch, c.Context, c.PromptLen)
	}
	if err := m.checkDecodes(); err != nil && c.PromptLen == 0 {
		return 0, err
	}
	if err := m.CheckLength(c.Context + 1); err != nil && m.Arch.Causal {
		return 0, fmt.Errorf("context %d and a token behind it: %w", c.Context, err)
	}
	if err := m.CheckLength(c.PromptLen); err != nil {
		return 0, fmt.Errorf("prompt-len: %w", err)
	}
	kept, err := c.KV.kept()
	if err := cmp.Or(err, m.CheckKept(kept)); err != nil {
		return 0, err
	}
	bytes = m.cacheBytes(kept, c.Batch, c.Context+1)
	if c.PromptLen > 0 {
		bytes += m.cacheBytes(kept, c.Batch, c.PromptLen)
	}
	if err := m.CheckMemory("the KV cache in "+formatNames[kept.Format], bytes); err != nil {
		return 0, fmt.Errorf("batch %d, context %d, prompt-len %d: %w", c.Batch, c.Context, c.PromptLen, err)
	}
	if err := m.checkPass(c.Batch, max(1, c.PromptLen)); err != nil {
		return 0, fmt.Errorf("batch, prompt-len: %w", err)
	}
	return bytes, nil
}

// checkPass returns an error for a pass over more tokens than fit in memory. It uses a lower bound for the memory of the
// pass: the hidden states twice, a layer's feed-forward block, and the logits of one token per sequence.
func (m *Model) checkPass(sequences, tokens int) error {
	a := m.Arch
	bytes := 4 * float64(sequences) * (float64(tokens)*float64(2*a.Dim+a.FFN) + float64(a.Vocab))
	return m.CheckMemory(fmt.Sprintf("a pass over %d sequences of %d tokens", sequences, tokens), bytes)
}

// readPerStep counts the weights that a decode step reads. These exclude an encoder's weights, those that computed the
// keys and values of the encoder's output, and the embedding tables, of which a step reads only a row (unless one is also
// the head).
func (m *Model) readPerStep() (n int64) {
	params, _ := m.Arch.Params() // the model was read by the same list
	for _, p := range params {
		switch {
		case strings.HasPrefix(p.Name, configs.EncoderPrefix), p.Role == configs.CrossK, p.Role == configs.CrossV,
			p.Role == configs.Positions, p.Role == configs.Embed && !m.Arch.Tied:
		default:
			n += int64(p.Size())
		}
	}
	return n
}

// stepFLOPs counts a decode step's multiplications and additions: two per weight and sequence, plus those of attention.
func (m *Model) stepFLOPs(batch, context int) float64 {
	a := m.Arch
	attention := 0.0
	for layer := range a.Layers {
		key, value := a.HeadDim, a.ValueDim()
		if a.IsLatent() { // each head attends to latents
			l := a.At(layer).Latent
			key, value = l.CacheDim(), l.Rank
		}
		attention += 2 * float64(a.Heads) * float64(key+value) * float64(context)
	}
	if a.EncoderLayers > 0 {
		attention *= 2
	}
	return float64(batch) * (2*float64(m.readPerStep()) + attention)
}

// decodeStep is the repeated step by which a decode is timed: one token for each sequence after Context others in the
// cache.
func decodeStep(ctx context.Context, c Cell, ids []int32) (cache *infer.Cache, step func() error, err error) {
	m := c.Model
	kept, err := c.KV.kept()
	if err != nil {
		return nil, nil, err
	}
	if cache, err = m.NewCacheOf(kept, c.Batch, c.Context+1); err != nil {
		return nil, nil, err
	}
	cache.Fill(ctx, c.Context)
	if m.Arch.EncoderLayers > 0 {
		m.FillSource(ctx, cache, c.Context)
	}
	return cache, func() error {
		cache.Truncate(c.Context)
		return m.stepped(cache, ids)
	}, nil
}

// stepped makes a step and waits for its result.
func (m *Model) stepped(cache *infer.Cache, ids []int32) error {
	logits, err := m.Step(cache, ids)
	return cmp.Or(err, m.Wait(logits))
}

// prefill returns what precedes the first token: a step over the prompts, or an encoder's pass and the step after it.
func prefill(c Cell, ids []int32) (run func() error, free func(), err error) {
	m, prompts := c.Model, ops.NewBatch(slices.Collect(slices.Chunk(ids, c.PromptLen))...)
	if !m.Arch.Causal {
		return func() error { return m.Wait(m.Hidden(prompts)) }, func() {}, nil
	}
	kept, err := c.KV.kept()
	if err != nil {
		return nil, nil, err
	}
	cache, err := m.NewCacheOf(kept, c.Batch, c.PromptLen)
	if err != nil {
		return nil, nil, err
	}
	run = func() error {
		cache.Truncate(0)
		if m.Arch.EncoderLayers > 0 {
			if err := m.Encode(cache, prompts); err != nil {
				return err
			}
			return m.stepped(cache, ids[:c.Batch])
		}
		return m.stepped(cache, ids)
	}
	return run, func() { m.Free(cache) }, nil
}
