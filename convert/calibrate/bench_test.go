package calibrate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/spago"
	"gqa/internal/weights"
)

// shape7B is a layer of 7-billion-parameter Llama's shape: dim 4096, 32 heads of 128, a gated MLP of 11008.
const shape7B = `{"model_type": "llama", "vocab_size": 64, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 1,
	"num_attention_heads": 32, "max_position_embeddings": 2048}`

// BenchmarkLayer measures calibration of one layer: the text through the original, with the moment of what attention
// reads, the readout of the layer with 8 KV heads, and steps of its refinement.
func BenchmarkLayer(b *testing.B) {
	src := large(b)
	const tokens = 8192
	d := Data{IDs: ids(src.Arch, tokens), Tokens: tokens}
	b.Run(fmt.Sprintf("dim=%d/tokens=%d", src.Arch.Dim, tokens), func(b *testing.B) {
		var through, readout, refine time.Duration
		const steps = 3
		for b.Loop() {
			w, err := New(b.Context(), cpu.New(), src, src.Arch.WithKVHeads(8), d, b.TempDir(), true)
			if err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if _, err := w.Layer(b.Context(), 0); err != nil {
				b.Fatal(err)
			}
			through += time.Since(start)
			merged := attentionOf(w, 0)
			for _, role := range []configs.Role{configs.K, configs.V} {
				name := configs.ParamName(role, 0, false)
				merged[name] = merged[name][:len(merged[name])/4]
			}
			start = time.Now()
			if _, _, err := w.Readout(b.Context(), 0, merged); err != nil {
				b.Fatal(err)
			}
			readout += time.Since(start)
			down := newDescent(w.engine, len(w.batches), 0, 0, 1e-3)
			w.attachTo(down, 0, merged)
			down.loss = func(i int) (spago.Tensor, float64, error) { return w.attentionLoss(0, i) }
			for _, x := range down.weights {
				x.begin(w.engine.Device())
			}
			start = time.Now()
			for s := range steps {
				if err := down.step(b.Context(), s+1, 1e-3); err != nil {
					b.Fatal(err)
				}
			}
			refine += time.Since(start)
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(through.Microseconds())/float64(b.N*tokens), "µs/token-layer")
		b.ReportMetric(float64(readout.Microseconds())/float64(b.N*tokens), "µs/token-readout")
		b.ReportMetric(refine.Seconds()/float64(b.N*steps), "s/step-refine")
	})
}

// large writes a layer of shape7B.
func large(b *testing.B) *weights.Source {
	b.Helper()
	arch, err := configs.Resolve([]byte(shape7B), "")
	if err != nil {
		b.Fatal(err)
	}
	params, err := arch.Params()
	if err != nil {
		b.Fatal(err)
	}
	r, all := rand.New(rand.NewPCG(1, 1)), map[string][]float32{}
	for _, p := range params {
		w := make([]float32, p.Size())
		for i := range w {
			w[i] = (r.Float32() - 0.5) / 32
		}
		all[p.Name] = w
	}
	dir := filepath.Join(b.TempDir(), "model")
	if err := weights.Write(dir, arch, checkpoints.BF16, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(shape7B), 0o666); err != nil {
		b.Fatal(err)
	}
	src, err := weights.Open(dir, weights.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { src.Close() })
	return src
}
