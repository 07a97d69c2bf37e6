package eval

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gqa/configs"
	"gqa/internal/cpu/pool"
	"gqa/internal/device"
	"gqa/internal/engine/infer"
	"gqa/internal/limits"
	"gqa/internal/ops"
)

// LatencyOptions determine what is timed.
type LatencyOptions struct {
	Batch     int // sequences decoded together
	Context   int // tokens in the cache, and in that of cross-attention, when a step is timed
	PromptLen int // tokens per sequence of the timed prefill; 0 for no prefill
}

// Latency is the cost of prefill and decode. Times are medians.
type Latency struct {
	Batch           int     `json:"batch"`
	Context         int     `json:"context"`
	Device          string  `json:"device,omitempty"` // empty for the processor
	Threads         int     `json:"threads"`          // of the processor
	PromptLen       int     `json:"prompt_len"`
	PrefillMS       float64 `json:"prefill_ms"`         // for Batch prompts of PromptLen tokens
	DecodeMSPerStep float64 `json:"decode_ms_per_step"` // for one token of each sequence
	DecodeMSPerTok  float64 `json:"decode_ms_per_token"`
	TokensPerS      float64 `json:"tokens_per_s"`
	KVBytesPerToken int64   `json:"kv_bytes_per_token"`                 // for one sequence, all layers
	CrossBytesToken int64   `json:"cross_kv_bytes_per_token,omitempty"` // in addition, per token that an encoder has read
	KVBytes         int64   `json:"kv_bytes"`                           // read by one step: Batch × Context tokens, and a source of the same length
	WeightBytes     int64   `json:"weight_bytes"`                       // read by one step
	RooflineMS      float64 `json:"roofline_ms"`                        // least time of a step that reads from memory; 0: not known, as of a GPU
	RooflineShare   float64 `json:"roofline_share"`                     // RooflineMS / DecodeMSPerStep

	formats infer.Formats
	encodes bool // an encoder without a decoder
}

// MeasureLatency times a model's prefill and decode on its device. machine is the processor's, or the zero Machine if it is not known.
// For the decode the cache is filled without a prefill. For a model that does not decode only the prefill is timed: one pass over the
// prompts.
func MeasureLatency(ctx context.Context, m *Model, machine Machine, o LatencyOptions) (*Latency, error) {
	if err := checkLatency(m, o); err != nil {
		return nil, err
	}
	size := m.Cache.Size()
	l := &Latency{
		Batch: o.Batch, Context: o.Context, Device: m.DeviceName(), Threads: pool.Threads(), PromptLen: o.PromptLen, formats: m.Formats,
		KVBytesPerToken: m.Arch.KVBytesPerToken(size), CrossBytesToken: m.Arch.CrossKVBytesPerToken(size),
		WeightBytes: int64(m.Weights.Size()) * m.readPerStep(), encodes: !m.Arch.Causal,
	}
	l.KVBytes = (l.KVBytesPerToken + l.CrossBytesToken) * int64(o.Batch) * int64(o.Context)
	m.Until(ctx)
	defer m.Until(context.Background())
	ids := randomIDs(o.Batch*max(1, o.PromptLen), m.Arch.Vocab)
	if !l.encodes {
		step, err := timeDecode(ctx, m, o, ids[:o.Batch])
		if err != nil {
			return nil, err
		}
		l.decode(step, machine, m.stepFLOPs(o.Batch, o.Context))
	}
	if o.PromptLen > 0 {
		prefill, err := timePrefill(ctx, m, o, ids)
		if err != nil {
			return nil, err
		}
		l.PrefillMS = milliseconds(prefill)
	}
	return l, nil
}

// decode derives the figures of the decode from the time of a step.
func (l *Latency) decode(step time.Duration, machine Machine, flops float64) {
	l.DecodeMSPerStep = milliseconds(step)
	l.DecodeMSPerTok = l.DecodeMSPerStep / float64(l.Batch)
	l.TokensPerS = 1000 / l.DecodeMSPerTok
	if l.Device == "" && machine.Bandwidth > 0 {
		l.RooflineMS = 1000 * machine.with(l.formats).roofline(float64(l.WeightBytes+l.KVBytes), flops)
		l.RooflineShare = l.RooflineMS / l.DecodeMSPerStep
	}
}

func checkLatency(m *Model, o LatencyOptions) error {
	if o.Batch < 1 || o.Context < 1 || o.PromptLen < 0 {
		return fmt.Errorf("batch is %d, context %d, prompt-len %d: want 1, 1, 0 or more", o.Batch, o.Context, o.PromptLen)
	}
	if err := m.checkDecodes(); err != nil && o.PromptLen == 0 {
		return err
	}
	if err := m.CheckLength(o.Context + 1); err != nil && m.Arch.Causal {
		return fmt.Errorf("context %d and a token behind it: %w", o.Context, err)
	}
	if err := m.CheckLength(o.PromptLen); err != nil {
		return fmt.Errorf("prompt-len: %w", err)
	}
	size := m.Cache.Size()
	perToken := m.Arch.KVBytesPerToken(size) + m.Arch.CrossKVBytesPerToken(size)
	if err := limits.Memory("the KV cache in "+formatNames[m.Cache], float64(perToken)*float64(o.Batch)*float64(max(o.Context+1, o.PromptLen))); err != nil {
		return fmt.Errorf("batch %d, context %d, prompt-len %d: %w", o.Batch, o.Context, o.PromptLen, err)
	}
	if err := m.checkPass(o.Batch, max(1, o.PromptLen)); err != nil {
		return fmt.Errorf("batch, prompt-len: %w", err)
	}
	return nil
}

// checkPass returns an error for a pass over more tokens than fit in memory. It uses a lower bound for the memory of the
// pass: the hidden states twice, a layer's feed-forward block, and the logits of one token per sequence.
func (m *Model) checkPass(sequences, tokens int) error {
	a := m.Arch
	bytes := 4 * float64(sequences) * (float64(tokens)*float64(2*a.Dim+a.FFN) + float64(a.Vocab))
	return limits.Memory(fmt.Sprintf("a pass over %d sequences of %d tokens", sequences, tokens), bytes)
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
	attention := 4 * float64(a.Layers) * float64(a.Heads*a.HeadDim) * float64(context)
	if a.EncoderLayers > 0 {
		attention *= 2
	}
	return float64(batch) * (2*float64(m.readPerStep()) + attention)
}

func timeDecode(ctx context.Context, m *Model, o LatencyOptions, ids []int32) (time.Duration, error) {
	_, step := decodeStep(ctx, m, o, ids)
	return timeMedian(ctx, step)
}

// decodeStep is the repeated step by which a decode is timed: one token for each sequence after Context others in the
// cache.
func decodeStep(ctx context.Context, m *Model, o LatencyOptions, ids []int32) (cache *infer.Cache, step func() error) {
	cache = m.NewCache(o.Batch, o.Context+1)
	cache.Fill(ctx, o.Context)
	if m.Arch.EncoderLayers > 0 {
		m.FillSource(ctx, cache, o.Context)
	}
	return cache, func() error {
		cache.Truncate(o.Context)
		return m.stepped(cache, ids)
	}
}

// stepped makes a step and waits for its result.
func (m *Model) stepped(cache *infer.Cache, ids []int32) error {
	logits, err := m.Step(cache, ids)
	return cmp.Or(err, m.Wait(logits))
}

// timePrefill times what precedes the first token: a step over the prompts, or an encoder's pass and the step after it.
func timePrefill(ctx context.Context, m *Model, o LatencyOptions, ids []int32) (time.Duration, error) {
	prompts := ops.NewBatch(slices.Collect(slices.Chunk(ids, o.PromptLen))...)
	if !m.Arch.Causal {
		return timeMedian(ctx, func() error { return m.Wait(m.Hidden(prompts)) })
	}
	cache := m.NewCache(o.Batch, o.PromptLen)
	return timeMedian(ctx, func() error {
		cache.Truncate(0)
		if m.Arch.EncoderLayers > 0 {
			if err := m.Encode(cache, prompts); err != nil {
				return err
			}
			return m.stepped(cache, ids[:o.Batch])
		}
		return m.stepped(cache, ids)
	})
}

// timeMedian runs f once to warm up, then at least 5 times and for about a second, and returns the median time.
func timeMedian(ctx context.Context, f func() error) (time.Duration, error) {
	if err := cmp.Or(f(), ctx.Err()); err != nil {
		return 0, err
	}
	var times []time.Duration
	for total := time.Duration(0); len(times) < 5 || total < time.Second && len(times) < 200; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := cmp.Or(f(), ctx.Err()); err != nil {
			return 0, err
		}
		times = append(times, max(time.Since(start), 1)) // a coarse clock may report zero
		total += times[len(times)-1]
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func randomIDs(n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ids
}

// RandomModel returns a Llama of a shape with random weights in the formats of f, for timing only. A feed-forward block
// without a gate becomes one with a gate and the same number of weights.
func RandomModel(ctx context.Context, s Shape, groups int, o ModelOptions) (*Model, error) {
	f, err := o.formats()
	if err != nil {
		return nil, err
	}
	a, err := s.arch(groups)
	if err != nil {
		return nil, err
	}
	params, err := a.Params()
	if err != nil {
		return nil, err
	}
	bytes := 0.0
	for _, p := range params {
		bytes += float64(f.Weights.Size()) * float64(p.Size())
	}
	if err := limits.Memory(s.Name+" in "+formatNames[f.Weights], bytes); err != nil {
		return nil, err
	}
	return newModel(o, "", a, func(receive func(p configs.Param, values []float32) error) error {
		for i, p := range params {
			if err := cmp.Or(ctx.Err(), receive(p, randomWeights(p.Size(), uint64(i)))); err != nil {
				return err
			}
		}
		return nil
	})
}

func randomWeights(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 3))
	w := make([]float32, n)
	for i := range w {
		w[i] = (r.Float32() - 0.5) / 16
	}
	return w
}

func (s Shape) arch(groups int) (*configs.Arch, error) {
	if groups == 0 {
		groups = s.KVHeads
	}
	ffn := s.FFN
	if !s.Gated {
		ffn = ffn * 2 / 3
	}
	config := fmt.Sprintf(`{"model_type": "llama", "vocab_size": %d, "hidden_size": %d, "num_hidden_layers": %d, "tie_word_embeddings": %t,
		"num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d, "intermediate_size": %d, "max_position_embeddings": %d}`,
		s.Vocab, s.Dim, s.Layers, s.Tied, s.Heads, groups, s.HeadDim, ffn, s.Context)
	return configs.Resolve([]byte(config), "")
}

var formatNames = map[device.Format]string{device.F32: "f32", device.BF16: "bf16", device.F16: "f16"}

func formatsText(f infer.Formats) string {
	if f.Weights == f.Cache {
		return formatNames[f.Weights]
	}
	return fmt.Sprintf("weights %s, cache %s", formatNames[f.Weights], formatNames[f.Cache])
}

// Print writes the figures as text.
func (l *Latency) Print(w io.Writer) error {
	fmt.Fprintf(w, "batch %d, context %d, %s, %s\n", l.Batch, l.Context, cmp.Or(l.Device, count(l.Threads, "thread")), formatsText(l.formats))
	if l.PromptLen > 0 {
		fmt.Fprintf(w, "prefill   %.2f ms for %d × %d tokens\n", l.PrefillMS, l.Batch, l.PromptLen)
	}
	if l.encodes {
		_, err := fmt.Fprintln(w, "decode    none: every token sees all others, and there is no KV cache")
		return err
	}
	fmt.Fprintf(w, "decode    %.3f ms/step, %.4f ms/token, %.0f tokens/s\n", l.DecodeMSPerStep, l.DecodeMSPerTok, l.TokensPerS)
	cross := ""
	if l.CrossBytesToken > 0 {
		cross = fmt.Sprintf(" and %d per source token", l.CrossBytesToken)
	}
	_, err := fmt.Fprintf(w, "KV cache  %d bytes/token%s (%s), %.1f MiB read per step; weights %.1f MiB (%s)\n",
		l.KVBytesPerToken, cross, formatNames[l.formats.Cache], float64(l.KVBytes)/(1<<20), float64(l.WeightBytes)/(1<<20), formatNames[l.formats.Weights])
	if l.RooflineMS == 0 {
		return err
	}
	note := ""
	if l.RooflineShare > 1 {
		note = " (more than 100%: not all is read from memory, the processor's cache holds some)"
	}
	_, err = fmt.Fprintf(w, "roofline  %.3f ms/step: at %.0f%% of it%s\n", l.RooflineMS, 100*l.RooflineShare, note)
	return err
}

// count formats a number of things: "1 thread", "2 threads".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
