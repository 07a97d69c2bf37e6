package eval

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"gqa/internal/cpu/pool"
	"gqa/internal/engine/infer"
)

// slow is a machine on which only the bytes count; on weak only the arithmetic counts.
var (
	slow = Machine{Bandwidth: 1e6, Peak: 1e18}
	weak = Machine{Bandwidth: 1e18, Peak: 1e6}
)

func mustTime(t *testing.T, m *Model, machine Machine, o LatencyOptions) *Latency {
	t.Helper()
	l, err := MeasureLatency(t.Context(), m, machine, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLatencyArithmetic compares the counts with those computed by hand from the tiny models' sizes. All have 2 layers,
// dim 64, 8 heads of 8, a feed-forward of 96 and 128 ids; an embedding table has 8192 weights.
func TestLatencyArithmetic(t *testing.T) {
	const batch, length = 3, 10
	const kvPerToken = 2 * 2 * 64 * 4 // keys and values, layers, dim, bytes
	const attention = 2 * 4 * 64 * length
	for family, read := range map[string]int64{
		"llama":    2*(4*64*64+3*64*96+2*64) + 64 + 128*64,                  // all but the embedding; the head is apart
		"gpt_neox": 2*(4*64*64+4*64+2*64*96+96+64+4*64) + 2*64 + 128*64,     // the same, with biases
		"gpt2":     2*(4*64*64+4*64+2*64*96+96+64+4*64) + 2*64 + 128*64 + 0, // the head is the embedding; no positions
	} {
		m := tiny(t, family)
		l := mustTime(t, m, slow, LatencyOptions{Batch: batch, Context: length})
		if l.WeightBytes != 4*read || l.KVBytesPerToken != kvPerToken || l.KVBytes != kvPerToken*batch*length {
			t.Errorf("%s: %d bytes of weights, %d of KV (%d a token); want %d, %d (%d)",
				family, l.WeightBytes, l.KVBytes, l.KVBytesPerToken, 4*read, kvPerToken*batch*length, kvPerToken)
		}
		if want := float64(4*read+kvPerToken*batch*length) / 1e6 * 1000; !near(l.RooflineMS, want, 1e-9*want) {
			t.Errorf("%s: bound by memory, %v ms a step, want %v", family, l.RooflineMS, want)
		}
		l = mustTime(t, m, weak, LatencyOptions{Batch: batch, Context: length})
		if want := float64(batch*(2*read+attention)) / 1e6 * 1000; !near(l.RooflineMS, want, 1e-9*want) {
			t.Errorf("%s: bound by arithmetic, %v ms a step, want %v", family, l.RooflineMS, want)
		}
	}
}

func TestLatencyOfGroups(t *testing.T) {
	var kv []int64
	for i, groups := range []int{0, 4, 2, 1} {
		shape := Shape{
			Name: "x", Layers: 2, Heads: 4, KVHeads: 4, HeadDim: 8, Dim: 32, FFN: 48, Vocab: 50, Context: 64,
			Gated: i%2 == 0, Tied: i < 2,
		}
		m, err := RandomModel(t.Context(), shape, groups, ModelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if want := shape.params(m.Arch.KVHeads) + 5*32; m.Parameters != want { // and five norms
			t.Errorf("%d groups: %d parameters, want %d", groups, m.Parameters, want)
		}
		kv = append(kv, mustTime(t, m, slow, LatencyOptions{Batch: 1, Context: 4}).KVBytesPerToken)
	}
	if want := []int64{512, 512, 256, 128}; !slices.Equal(kv, want) {
		t.Errorf("KV bytes a token %v, want %v", kv, want)
	}
}

// The figures must be consistent with each other; their size depends on the machine.
func TestLatencyFigures(t *testing.T) {
	defer pool.SetThreads(0)
	m := tiny(t, "llama")
	for _, o := range []LatencyOptions{{1, 1, 0}, {4, 30, 12}, {2, 300, 1}} {
		pool.SetThreads(o.Batch)
		l := mustTime(t, m, slow, o)
		if l.Batch != o.Batch || l.Context != o.Context || l.PromptLen != o.PromptLen || l.Threads != o.Batch {
			t.Errorf("%+v: reported for %+v", o, l)
		}
		if !(l.DecodeMSPerStep > 0) || (l.PrefillMS > 0) != (o.PromptLen > 0) {
			t.Errorf("%+v: %v ms a step, prefill %v ms", o, l.DecodeMSPerStep, l.PrefillMS)
		}
		if !near(l.DecodeMSPerTok*float64(o.Batch), l.DecodeMSPerStep, 1e-9) || !near(l.TokensPerS*l.DecodeMSPerTok, 1000, 1e-6) ||
			!near(l.RooflineShare*l.DecodeMSPerStep, l.RooflineMS, 1e-9*l.RooflineMS) {
			t.Errorf("%+v: the figures contradict each other: %+v", o, l)
		}
	}
}

// Each timed step finds Context tokens in the cache, and adds one.
func TestDecodeStepHasItsContext(t *testing.T) {
	m := tiny(t, "llama")
	for _, o := range []LatencyOptions{{1, 1, 0}, {3, 40, 0}} {
		cache, step, err := decodeStep(t.Context(), Cell{Model: m, LatencyOptions: o}, randomIDs(o.Batch, m.Arch.Vocab))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := step(); err != nil || cache.Len != o.Context+1 || cache.Capacity != o.Context+1 || cache.Seqs != o.Batch {
				t.Errorf("%+v: after a step %d sequences of %d tokens, %v; want %d tokens", o, cache.Seqs, cache.Len, err, o.Context+1)
			}
		}
	}
}

func TestFit(t *testing.T) {
	llama, gpt2 := tiny(t, "llama").Arch, tiny(t, "gpt2").Arch
	for _, c := range []struct{ got, want int }{
		{Fit(llama, 5000), 5000},
		{Fit(gpt2, 5000), 64},
		{Fit(gpt2, 63), 63},
		{Room(llama, 60, 128), 128},
		{Room(gpt2, 60, 5), 5},
		{Room(gpt2, 60, 128), 5}, // the last is written, not read
		{Room(gpt2, 64, 128), 1},
		{Room(gpt2, 65, 128), 0},
	} {
		if c.got != c.want {
			t.Errorf("got %d, want %d", c.got, c.want)
		}
	}
	prompt := randomIDs(60, gpt2.Vocab)
	o := GenerateOptions{MaxTokens: Room(gpt2, len(prompt), 128), Stop: -1}
	if ids := generated(t, tiny(t, "gpt2"), prompt, o); len(ids) != 5 {
		t.Errorf("%d tokens in the room for 5", len(ids))
	}
}

func TestLatencyJSON(t *testing.T) {
	contract := []string{
		"batch", "context", "decode_ms_per_step", "decode_ms_per_token", "kv_bytes", "kv_bytes_per_token", "prefill_ms",
		"roofline_ms", "roofline_share", "threads", "tokens_per_s", "weight_bytes",
	}
	more := []string{
		"decode_ms_per_step_high", "decode_ms_per_step_low", "kv_dtype", "kv_heads", "prefill_ms_high", "prefill_ms_low", "prompt_len", "rounds",
	}
	l := mustTime(t, tiny(t, "llama"), slow, LatencyOptions{1, 2, 0})
	l.Notes = nil // there may be some
	if keys := slices.Sorted(maps.Keys(asJSON(t, l))); !slices.Equal(keys, slices.Sorted(slices.Values(append(contract, more...)))) {
		t.Errorf("keys %v, want %v and %v", keys, contract, more)
	}
}

func TestLatencyRefuses(t *testing.T) {
	m, learned := tiny(t, "llama"), tiny(t, "gpt2")
	encoder := *m
	arch := *m.Arch
	arch.Causal, arch.Layers = false, 0 // no KV cache
	encoder.Decoder = &infer.Decoder{Arch: &arch}
	encoder.Arch = &arch
	for _, c := range []struct {
		m    *Model
		o    LatencyOptions
		want string
	}{
		{m, LatencyOptions{0, 1, 0}, "batch is 0, context 1, prompt-len 0: want 1, 1, 0 or more"},
		{m, LatencyOptions{1, 0, 0}, "context 0"},
		{m, LatencyOptions{1, 1, -1}, "prompt-len -1"},
		{learned, LatencyOptions{1, 64, 0}, "context 64 and a token behind it: 65 positions requested, but the model has 64"},
		{learned, LatencyOptions{1, 4, 65}, "prompt-len: 65 positions requested, but the model has 64"},
		{m, LatencyOptions{1 << 20, 1 << 20, 0}, "the KV cache in f32 takes 1048577.0 GiB, but "},
		{m, LatencyOptions{1 << 40, 1 << 40, 0}, "GiB of memory are free"},
		{&encoder, LatencyOptions{1 << 20, 1, 1 << 20}, "batch, prompt-len: a pass over 1048576 sequences of 1048576 tokens takes "},
	} {
		_, err := MeasureLatency(t.Context(), c.m, slow, c.o)
		wantError(t, "latency", err, c.want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureLatency(ctx, m, slow, LatencyOptions{1, 1, 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for want, shape := range map[string]Shape{
		"x in f32 takes ":            {Name: "x", Layers: 1 << 12, Heads: 4, KVHeads: 4, HeadDim: 1 << 12, Dim: 1 << 14, FFN: 1 << 16, Vocab: 50, Context: 64},
		"3 kv heads do not divide 4": {Name: "x", Layers: 1, Heads: 4, KVHeads: 3, HeadDim: 8, Dim: 32, FFN: 48, Vocab: 50, Context: 64},
	} {
		_, err := RandomModel(t.Context(), shape, 0, ModelOptions{})
		wantError(t, "shape", err, want)
	}
}

func TestLatencyPrint(t *testing.T) {
	l := Latency{
		Batch: 2, Context: 100, Threads: 1, PromptLen: 50, PrefillMS: 12.345, DecodeMSPerStep: 4, DecodeMSPerTok: 2, TokensPerS: 500,
		KVBytesPerToken: 8192, KVBytes: 1 << 20, WeightBytes: 3 << 20, RooflineMS: 1, RooflineShare: 0.25,
		Rounds: 9, DecodeLow: 3.5, DecodeHigh: 4.25, PrefillLow: 12, PrefillHigh: 13, Notes: []string{"a note"},
	}
	want := `batch 2, context 100, 1 thread, f32
prefill   12.35 ms (12.00 to 13.00) for 2 × 50 tokens
decode    4.000 ms/step (3.500 to 4.250), 2.0000 ms/token, 500 tokens/s
KV cache  8192 bytes/token (f32), 1.0 MiB read per step; weights 3.0 MiB (f32)
roofline  1.000 ms/step: at 25% of it
note      a note
`
	var got bytes.Buffer
	if err := l.Print(&got); err != nil || got.String() != want {
		t.Errorf("printed\n%swant\n%s(%v)", got.String(), want, err)
	}
	l.PromptLen, l.RooflineShare = 0, 1.5
	got.Reset()
	if err := l.Print(&got); err != nil || strings.Contains(got.String(), "prefill") || !strings.Contains(got.String(), "150% of it (more") {
		t.Errorf("printed\n%s(%v), want no prefill and a word on the share", got.String(), err)
	}
}

// TestLatencies counts the bytes of several cells of one model, and compares the others with the first of their batch and context.
func TestLatencies(t *testing.T) {
	m := gopher(t)
	var cells []Cell
	for _, o := range []LatencyOptions{{1, 100, 0}, {2, 50, 0}} {
		for _, kv := range []KVCache{{}, {DType: "int8"}, {DType: "int4", Window: 20, Sinks: 4}} {
			cells = append(cells, Cell{"gopher", m, kv, o})
		}
	}
	l, err := MeasureLatencies(t.Context(), cells, slow, Timing{Rounds: 6, Seconds: 1e-9})
	if err != nil {
		t.Fatal(err)
	}
	const rows = 2 * 4 * 8 // keys and values, layers, heads of 32
	for i, c := range l.Cells {
		perToken := []int64{rows * 32 * 4, rows * (32 + 4), rows * (16 + 4)}[i%3]
		tokens := []int64{int64(c.Context), int64(c.Context), 24}[i%3]
		if c.KVBytesPerToken != perToken || c.KVBytes != perToken*tokens*int64(c.Batch) || c.Batch != cells[i].Batch || c.Rounds != 6 || c.Model != "gopher" {
			t.Errorf("cell %d: %+v, want %d bytes for each of %d tokens", i, c, perToken, tokens)
		}
		if (c.Speedup == nil) != (i%3 == 0) {
			t.Errorf("cell %d: compared: %v", i, c.Speedup)
		}
		if c.Speedup != nil && *c.Speedup != c.DecodeRounds.Faster(l.Cells[i/3*3].DecodeRounds) {
			t.Errorf("cell %d: %+v", i, c.Speedup)
		}
	}
	_, err = MeasureLatencies(t.Context(), append(cells, Cell{"gopher", m, KVCache{DType: "int7"}, LatencyOptions{1, 1, 0}}), slow, Timing{})
	wantError(t, "a cell", err, "gopher: a KV cache in int7: want one of")
	for range 8 { // each of them fits
		cells = append(cells, Cell{"gopher", m, KVCache{}, LatencyOptions{1 << 11, 1 << 11, 0}})
	}
	_, err = MeasureLatencies(t.Context(), cells, slow, Timing{})
	wantError(t, "all cells", err, "GiB of memory are free")
}

// TestInt8CacheCosts bounds what a cache of 8 bits costs, and expects one of 4 bits to cost more.
func TestInt8CacheCosts(t *testing.T) {
	loss := func(kv KVCache) float64 {
		m, err := LoadModel(t.Context(), gopher(t).Dir, ModelOptions{Cache: kv})
		if err != nil {
			t.Fatal(err)
		}
		o := QualityOptions{SeqLen: 256, MaxWindows: 8}
		d, err := LoadCorpus(t.Context(), "sample:val", m, o)
		if err != nil {
			t.Fatal(err)
		}
		q, err := MeasureQuality(t.Context(), m, d, o)
		if err != nil {
			t.Fatal(err)
		}
		return q.Loss
	}
	exact := loss(KVCache{})
	if cost := loss(KVCache{DType: "int8"}) - exact; cost == 0 || math.Abs(cost) > 0.005 {
		t.Errorf("int8 costs %.5f nats, want a little, at most 0.005", cost)
	}
	if cost := loss(KVCache{DType: "int4"}) - exact; cost < 0.005 || cost > 0.2 {
		t.Errorf("int4 costs %.5f nats, want 0.005 to 0.2", cost)
	}
}
