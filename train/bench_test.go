package train

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/cpu/pool"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// smallLlama is the model that docs/performance.md trains.
const smallLlama = `{"model_type": "llama", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
	"num_key_value_heads": 6, "intermediate_size": 1024, "vocab_size": 8192, "max_position_embeddings": 256}`

// BenchmarkStep is a steady step: of the sample model, and of one with 6 layers, dim 384 and a vocabulary of 8192. GFLOP/s
// count six operations for every weight and token, and causal attention's.
func BenchmarkStep(b *testing.B) {
	for _, threads := range slices.Compact([]int{1, runtime.GOMAXPROCS(0)}) {
		b.Run(fmt.Sprintf("model=gopher-4m/batch=8/seq=512/threads=%d", threads), func(b *testing.B) {
			src, all := golden.Load(b, "../checkpoints/sample/gopher-4m")
			benchmarkStep(b, src.Arch, all, 8, 512, threads)
		})
		b.Run(fmt.Sprintf("model=6x384/batch=4/seq=256/threads=%d", threads), func(b *testing.B) {
			arch, all := golden.TinyModel(b, smallLlama)
			benchmarkStep(b, arch, all, 4, 256, threads)
		})
	}
}

func benchmarkStep(b *testing.B, arch *configs.Arch, all map[string][]float32, batch, seq, threads int) {
	pool.SetThreads(threads)
	defer pool.SetThreads(0)
	t, err := newTrainer(cpu.New(), goldenRecipe(b, fmt.Sprintf("batch=%d", batch), "optimizer.lr=1e-5"), arch, model.FromMap(arch, all))
	if err != nil {
		b.Fatal(err)
	}
	windows := golden.Windows(1, batch, seq, arch.Vocab)
	step := func(n int) {
		if _, err := t.step(n, windows, nil); err != nil {
			b.Fatal(err)
		}
	}
	step(1) // buffers
	step(2)
	b.ReportAllocs()
	for n := 3; b.Loop(); n++ {
		step(n)
	}
	size := 0
	for _, w := range all {
		size += len(w)
	}
	rate := float64(batch*seq*b.N) / b.Elapsed().Seconds()
	perToken := 6*float64(size) + 6*float64(arch.Layers*arch.Heads*arch.HeadDim*seq)
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(rate*perToken/1e9, "GFLOP/s")
}
