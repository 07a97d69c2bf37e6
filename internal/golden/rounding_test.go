package golden_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// T5s of the sizes of further reference cases.
const (
	t5Sizes = `{"model_type": "t5", "vocab_size": 131, "d_model": 96, "d_kv": 16, "num_heads": 6, "d_ff": 80, "num_layers": 3,
		"num_decoder_layers": 3, `
	wideT5v10 = t5Sizes + `"feed_forward_proj": "relu"}`
	wideT5v11 = t5Sizes + `"feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}`
)

// TestRounding: what the logits of random T5s, whose scores reach 50, lose by rounding, in one pass and through the caches, on
// every set of kernels, where sums are precise. In float32 the medians are five times as large. Logits' deviation is 1.5, of
// v1.0 0.15.
func TestRounding(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		limit  float64 // of the median
	}{"v1.1": {wideT5v11, 1.5e-4}, "v1.0": {wideT5v10, 5e-6}} {
		t.Run(name, func(t *testing.T) {
			models := make([]*roundedModel, 9)
			for i := range models {
				models[i] = randomT5(t, c.config, uint64(i))
			}
			onEveryPath(t, func(t *testing.T) {
				var whole, stepped []float64
				for _, m := range models {
					d := infer.New(cpu.New(), m.arch, m.all)
					d.Precise(true)
					whole = append(whole, m.off(d.Logits(m.batch).F32()))
					stepped = append(stepped, m.off(throughCache(t, d, m.batch)))
				}
				for what, off := range map[string][]float64{"one pass": whole, "steps": stepped} {
					slices.Sort(off)
					if median := off[len(off)/2]; !(median <= c.limit) {
						t.Errorf("%s: logits are off by %.2g at the median and %.2g at most, want %g at the median", what, median, off[len(off)-1], c.limit)
					}
				}
			})
		})
	}
}

// roundedModel is a model, its input, and the logits computed by exact.
type roundedModel struct {
	arch  *configs.Arch
	all   map[string][]float32
	batch ops.Batch
	want  []float64
}

// off returns the largest difference of a logit.
func (m *roundedModel) off(got []float32) (d float64) {
	for i, want := range m.want {
		d = max(d, math.Abs(float64(got[i])-want))
	}
	return d
}

// randomT5 draws weights as those of the reference cases are drawn: of deviation 1.5/√in, norms around 1.
func randomT5(t testing.TB, config string, seed uint64) *roundedModel {
	t.Helper()
	src, all := golden.Load(t, golden.Random(t, config))
	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r, weights := rand.New(rand.NewPCG(seed, 1)), map[string]wide{}
	for _, p := range params {
		w, cols := all[p.Name], p.Shape[len(p.Shape)-1]
		m := newF64(len(w)/cols, cols)
		for i := range w {
			w[i] = float32(r.NormFloat64() * 1.5 / math.Sqrt(float64(cols)))
			if p.IsNorm() {
				w[i] = float32(1 + r.NormFloat64()/10)
			}
			m.data[i] = float64(w[i])
		}
		weights[p.Name] = m
	}
	m := &roundedModel{arch: src.Arch, all: all, batch: randomTokens(r, src.Arch.Vocab, 12)}
	source := randomTokens(r, src.Arch.Vocab, 29)
	m.batch.Source = &source
	exactly := model.New(src.Arch, func(name string) (wide, bool) { w, ok := weights[name]; return w, ok && w.rows > 0 })
	m.want = exactly.Logits(exact{}, exactly.Hidden(exact{}, m.batch)).data
	return m
}

// randomTokens returns a batch of two sequences.
func randomTokens(r *rand.Rand, vocab, length int) ops.Batch {
	ids := make([]int32, 2*length)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ops.NewBatch(ids[:length], ids[length:])
}

// throughCache returns the logits of every token, one at a time.
func throughCache(t *testing.T, d *infer.Decoder, b ops.Batch) []float32 {
	t.Helper()
	cache, vocab := d.NewCache(b.Seqs, b.Len), d.Arch.Vocab
	if err := d.Encode(cache, *b.Source); err != nil {
		t.Fatal(err)
	}
	logits := make([]float32, len(b.IDs)*vocab)
	for i := range b.Len {
		got, err := d.Step(cache, []int32{b.IDs[i], b.IDs[b.Len+i]})
		if err != nil {
			t.Fatal(err)
		}
		copy(logits[i*vocab:], got.F32()[:vocab])
		copy(logits[(b.Len+i)*vocab:], got.F32()[vocab:])
	}
	return logits
}
