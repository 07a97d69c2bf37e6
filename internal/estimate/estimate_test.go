package estimate

import (
	"fmt"
	"math"
	"testing"

	"gqa/configs"
	"gqa/configs/recipe"
)

func llama(t *testing.T, dim, layers, heads, kv, ffn, vocab int) *configs.Arch {
	t.Helper()
	return resolve(t, fmt.Sprintf(`{"model_type": "llama", "vocab_size": %d, "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": %d, "max_position_embeddings": 4096, "tie_word_embeddings": false}`, vocab, dim, layers, heads, kv, ffn))
}

func resolve(t *testing.T, config string) *configs.Arch {
	t.Helper()
	a, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func adamw(batch, seqLen int) *recipe.Recipe {
	return &recipe.Recipe{Batch: batch, SeqLen: seqLen, Accumulate: 1, Optimizer: recipe.Optimizer{Name: recipe.AdamW}}
}

const gib = 1 << 30

// The memory that a GPU showed, and the share of its peak that a speed is (docs/gpu.md).
func TestMeasured(t *testing.T) {
	neox := resolve(t, `{"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
		"intermediate_size": 8192, "max_position_embeddings": 2048, "tie_word_embeddings": false}`)
	for name, c := range map[string]struct {
		arch        *configs.Arch
		batch       int
		recompute   string
		gibs, speed float64
		mfu         float64
	}{
		"1B":      {llama(t, 2048, 16, 32, 8, 8192, 32000), 4, "none", 26.6, 80652, 0.541},
		"GPTNeoX": {neox, 4, "none", 34.1, 60328, 0.516},
		"7B":      {llama(t, 4096, 32, 32, 8, 11008, 32000), 8, "layer", 87.2, 13105, 0.482},
	} {
		m, err := Of(c.arch, adamw(c.batch, 2048), Setting{Recompute: c.recompute, Windows: c.batch, BF16: true, OwnMemory: true, Logits: 143771 << 20 / 256 / 2})
		if err != nil {
			t.Fatal(err)
		}
		if off := m.All()/gib/c.gibs - 1; math.Abs(off) > 0.03 {
			t.Errorf("%s: %.1f GiB, measured %.1f", name, m.All()/gib, c.gibs)
		}
		flops, err := FLOPs(c.arch, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if mfu := flops * c.speed / 989.5e12; math.Abs(mfu-c.mfu) > 0.002 {
			t.Errorf("%s: %.3f of the peak, want %.3f", name, mfu, c.mfu)
		}
	}
}

// What saves memory does.
func TestSavings(t *testing.T) {
	a := llama(t, 1024, 8, 16, 4, 2816, 8192)
	base := adamw(4, 512)
	of := func(change func(r *recipe.Recipe, s *Setting)) Memory {
		t.Helper()
		r, s := *base, Setting{Recompute: "none", Windows: 4, BF16: true}
		r.LoRA = recipe.LoRA{Rank: 8, Alpha: 8, Projections: "q,v"}
		change(&r, &s)
		m, err := Of(a, &r, s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := of(func(*recipe.Recipe, *Setting) {})
	for name, change := range map[string]func(r *recipe.Recipe, s *Setting){
		"attention":  func(_ *recipe.Recipe, s *Setting) { s.Recompute = "attention" },
		"layer":      func(_ *recipe.Recipe, s *Setting) { s.Recompute = "layer" },
		"windows":    func(_ *recipe.Recipe, s *Setting) { s.Windows = 1; base.Accumulate = 1 },
		"bf16":       func(r *recipe.Recipe, _ *Setting) { r.Optimizer.Moments = recipe.MomentsBF16 },
		"8bit":       func(r *recipe.Recipe, _ *Setting) { r.Optimizer.Moments = recipe.Moments8 },
		"adafactor":  func(r *recipe.Recipe, _ *Setting) { r.Optimizer.Name = recipe.Adafactor },
		"projection": func(r *recipe.Recipe, _ *Setting) { r.Train = recipe.TrainAttention },
		"lora":       func(r *recipe.Recipe, s *Setting) { r.Train, s.Exact = recipe.TrainLoRA, true },
	} {
		if after := of(change); after.All() >= before.All() {
			t.Errorf("%s takes %.0f MiB, without it %.0f", name, after.All()/(1<<20), before.All()/(1<<20))
		}
	}
	last := before.All() + 1
	for _, s := range Shardings {
		m := of(func(_ *recipe.Recipe, set *Setting) { set.GPUs, set.Sharding = 4, s })
		if m.All() >= last {
			t.Errorf("%s takes %.0f MiB", s, m.All()/(1<<20))
		}
		last = m.All()
	}
}

// Only what is trained, and what an update does not need whole, is divided.
func TestDivided(t *testing.T) {
	a := llama(t, 1024, 8, 16, 4, 2816, 8192)
	of := func(gpus int, sharding Sharding, change func(r *recipe.Recipe)) Memory {
		t.Helper()
		r := adamw(4, 512)
		r.LoRA = recipe.LoRA{Rank: 8, Alpha: 8, Projections: "q,v"}
		change(r)
		m, err := Of(a, r, Setting{Recompute: "none", Windows: 4, BF16: true, Exact: true, GPUs: gpus, Sharding: sharding})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, c := range map[string]struct {
		change             func(r *recipe.Recipe)
		weights, gradients float64 // shares of those on one GPU that remain on each of very many
	}{
		"adamw":     {func(*recipe.Recipe) {}, 0.5, 0},
		"adafactor": {func(r *recipe.Recipe) { r.Optimizer.Name = recipe.Adafactor }, 0.5, 1},
		"muon":      {func(r *recipe.Recipe) { r.Optimizer.Name = recipe.Muon }, 1, 0.9},
		"lora":      {func(r *recipe.Recipe) { r.Train = recipe.TrainLoRA }, 1, 0},
	} {
		one, many := of(1, ShardNone, c.change), of(1e6, ShardGradients, c.change)
		if w, g := many.Weights/one.Weights, many.Gradients/one.Gradients; math.Abs(w-c.weights) > 0.01 || math.Abs(g-c.gradients) > 0.05 || many.State > 1e3 {
			t.Errorf("%s: %.3f of the weights and %.3f of the gradients remain, want %.3f and %.3f", name, w, g, c.weights, c.gradients)
		}
	}
}

// With less memory more is saved, and never more than is needed; nothing is chosen that the recipe excludes.
func TestChoose(t *testing.T) {
	a, r := llama(t, 4096, 32, 32, 8, 11008, 32000), adamw(8, 2048)
	of := func(gpus int, room float64) Plan {
		t.Helper()
		p, err := Choose(a, r, Setting{BF16: true, OwnMemory: true, GPUs: gpus}, room*gib)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		gpus      int
		room      float64
		recompute string
		windows   int
		sharding  Sharding
		fits      bool
	}{
		{1, 1000, "none", 8, ShardNone, true},
		{1, 140, "none", 4, ShardNone, true},
		{1, 100, "none", 1, ShardNone, true},
		{1, 88, "layer", 8, ShardNone, true},
		{1, 40, "layer", 8, ShardNone, false},
		{2, 80, "none", 2, ShardOptimizer, true},
		{8, 36, "none", 1, ShardGradients, true},
		{8, 30, "none", 1, ShardParameters, true},
	} {
		p := of(c.gpus, c.room)
		if p.Recompute != c.recompute || p.Windows != c.windows || p.Sharding != c.sharding || p.Fits != c.fits || p.Fits != (p.Memory.All() <= c.room*gib) {
			t.Errorf("%d GPUs of %.0f GiB: %s, %d windows, %s, fits %v with %.1f GiB; want %+v", c.gpus, c.room, p.Recompute, p.Windows, p.Sharding, p.Fits, p.Memory.All()/gib, c)
		}
	}
	r.Recompute = "attention"
	if p := of(1, 40); p.Recompute != "attention" || p.Fits {
		t.Errorf("%+v, want what the recipe says", p.Setting)
	}
	r.Sharding = recipe.ShardOptimizer
	if p := of(2, 60); p.Sharding != ShardOptimizer {
		t.Errorf("%+v, want what the recipe says", p.Setting)
	}
}
