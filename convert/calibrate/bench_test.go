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
	"gqa/internal/weights"
)

// shape7B is a layer of 7-billion-parameter Llama's shape: dim 4096, 32 heads of 128, a gated MLP of 11008.
const shape7B = `{"model_type": "llama", "vocab_size": 64, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 1,
	"num_attention_heads": 32, "max_position_embeddings": 2048}`

// BenchmarkLayer is what calibration costs for one layer: the text through the original, with the moment of what attention
// reads, and the readout of the layer with 8 KV heads.
func BenchmarkLayer(b *testing.B) {
	src := large(b)
	const tokens = 8192
	d := Data{IDs: ids(src.Arch, tokens), Tokens: tokens}
	b.Run(fmt.Sprintf("dim=%d/tokens=%d", src.Arch.Dim, tokens), func(b *testing.B) {
		var through, readout time.Duration
		for b.Loop() {
			w, err := New(b.Context(), src, src.Arch.WithKVHeads(8), d, b.TempDir(), false)
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
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(through.Microseconds())/float64(b.N*tokens), "µs/token-layer")
		b.ReportMetric(float64(readout.Microseconds())/float64(b.N*tokens), "µs/token-readout")
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
	if err := weights.Write(dir, arch, checkpoints.BF16, all, checkpoints.WriteOptions{}); err != nil {
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
