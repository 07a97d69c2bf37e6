package train

import (
	"math"
	"math/rand/v2"
	"testing"

	"gqa/configs"
	"gqa/internal/engine/spago"
)

// tinyConfigs are small models of each shape of layer, with two KV heads for four heads.
var tinyConfigs = map[string]string{
	"llama": `{"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16}`,
	"llama with biases, tied": `{"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16,
		"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true}`,
	"gpt_neox": `{"model_type": "gpt_neox", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16,
		"rotary_pct": 0.5}`,
	"gpt_neox sequential": `{"model_type": "gpt_neox", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 48, "max_position_embeddings": 16,
		"use_parallel_residual": false}`,
	"gpt2": `{"model_type": "gpt2", "vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "num_key_value_heads": 2,
		"n_inner": 48, "n_positions": 16}`,
}

func tinyModel(t testing.TB, config string) (*configs.Arch, map[string][]float32) {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	params, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := map[string][]float32{}
	for _, p := range params {
		w := make([]float32, p.Size())
		for i := range w {
			w[i] = float32(r.NormFloat64())
			if len(p.Shape) > 1 {
				w[i] /= float32(math.Sqrt(float64(p.Shape[1])) / 1.5)
			} else {
				w[i] = 0.3*w[i] + 0.5
			}
		}
		all[p.Name] = w
	}
	return arch, all
}

func randomWindows(seed uint64, count, n, vocab int) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	windows := make([][]int32, count)
	for i := range windows {
		windows[i] = make([]int32, n)
		for j := range windows[i] {
			windows[i][j] = int32(r.IntN(vocab))
		}
	}
	return windows
}

// TestGradient compares the whole model's gradient with central differences of its loss, (L(w+hd) - L(w-hd)) / 2h, for every
// weight along three directions d: the gradient's own, a random one, and single entries. The loss is about 4 and computed
// in float32: its rounding, about 1e-6, becomes 1e-6/2h; the formula itself is wrong by h²/6 of the third derivative.
// h = 4e-3 balances the two near 2e-4 for derivatives that are from 1e-3 to 1 in size.
func TestGradient(t *testing.T) {
	const h, absolute, relative = 4e-3, 4e-4, 0.01
	for name, config := range tinyConfigs {
		t.Run(name, func(t *testing.T) {
			arch, all := tinyModel(t, config)
			trainer, err := newTrainer(goldenRecipe(t), arch, all)
			if err != nil {
				t.Fatal(err)
			}
			windows := randomWindows(3, 3, 9, arch.Vocab)
			if err := trainer.accumulate(new(outcome), 0, windows); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(5, 6))
			for _, s := range trainer.optimizer.slots {
				w, grad := spago.Data(s.param), spago.Grad(s.param)
				if grad == nil {
					t.Errorf("%s has no gradient", s.name)
					continue
				}
				for kind, d := range directions(r, grad) {
					want := 0.0
					for i := range d {
						want += float64(d[i]) * float64(grad[i])
					}
					got := (shifted(trainer, windows, w, d, h) - shifted(trainer, windows, w, d, -h)) / (2 * h)
					if math.Abs(got-want) > absolute+relative*math.Abs(want) {
						t.Errorf("%s, %s: difference quotient %v, gradient %v", s.name, kind, got, want)
					}
				}
			}
		})
	}
}

// directions are unit vectors to check a gradient along.
func directions(r *rand.Rand, grad []float32) map[string][]float32 {
	along, random := append([]float32(nil), grad...), make([]float32, len(grad))
	for i := range random {
		random[i] = float32(r.NormFloat64())
	}
	all := map[string][]float32{"its own direction": unit(along), "a random direction": unit(random)}
	for _, name := range []string{"entry a", "entry b", "entry c"} {
		entry := make([]float32, len(grad))
		entry[r.IntN(len(grad))] = 1
		all[name] = entry
	}
	return all
}

func unit(d []float32) []float32 {
	sum := 0.0
	for _, x := range d {
		sum += float64(x) * float64(x)
	}
	for i := range d {
		d[i] /= float32(math.Sqrt(sum) + 1e-30)
	}
	return d
}

// shifted is the loss with w moved by h along d.
func shifted(t *trainer, windows [][]int32, w, d []float32, h float32) float64 {
	before := append([]float32(nil), w...)
	for i := range w {
		w[i] += h * d[i]
	}
	defer copy(w, before)
	return t.evaluate(windows)
}

// Gradients of a step are those of its micro-batches together.
func TestAccumulate(t *testing.T) {
	arch, all := tinyModel(t, tinyConfigs["llama"])
	windows := randomWindows(3, 4, 9, arch.Vocab)
	var norms []float64
	for _, sets := range [][]string{{"batch=4"}, {"batch=2", "accumulate=2"}, {"batch=1", "accumulate=4"}} {
		trainer, err := newTrainer(goldenRecipe(t, sets...), arch, clone(all))
		if err != nil {
			t.Fatal(err)
		}
		out, err := trainer.step(1, windows)
		if err != nil {
			t.Fatal(err)
		}
		norms = append(norms, out.gradNorm)
	}
	for _, norm := range norms[1:] {
		if math.Abs(norm-norms[0]) > 1e-5*norms[0] {
			t.Errorf("gradient norms %v, want all equal", norms)
		}
	}
}
