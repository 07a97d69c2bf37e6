package spago

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/ops"
)

// One product for several linear layers gives the loss and the gradients of separate products, for layers with and without
// biases, norms of queries and keys, clipping, and rotation.
func TestJointWeights(t *testing.T) {
	const shape = `"vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
		"intermediate_size": 144, "max_position_embeddings": 96`
	for name, config := range map[string]string{
		"llama": llamaConfig, "gpt2": gptConfig, "qwen2": `{"model_type": "qwen2", ` + shape + `}`,
		"qwen3": `{"model_type": "qwen3", "head_dim": 16, ` + shape + `}`,
		"olmo2": `{"model_type": "olmo2", ` + shape + `}`,
		"olmo":  `{"model_type": "olmo", "clip_qkv": 0.5, ` + shape + `}`,
		"phi":   `{"model_type": "phi", ` + shape + `}`,
		"deepseek": `{"model_type": "deepseek_v3", "kv_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20, "q_lora_rank": null,
			"first_k_dense_replace": 2, "num_key_value_heads": 6, ` + strings.Replace(shape, `"num_key_value_heads": 2,`, "", 1) + `}`,
		"deepseek, low rank": `{"model_type": "deepseek_v3", "kv_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20, "q_lora_rank": 18,
			"attention_bias": true, "first_k_dense_replace": 2, "num_key_value_heads": 6, ` + strings.Replace(shape, `"num_key_value_heads": 2,`, "", 1) + `}`,
		"latent": `{"model_type": "llama_mla", "kv_lora_rank": 10, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20,
			"mla": {"softmax_scale": 0.2, "inv_freq": [1, 1, 0.2, 0.1]}, ` + shape + `}`,
		"neox":    `{"model_type": "gpt_neox", "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 144, "max_position_embeddings": 96}`,
		"granite": `{"model_type": "granite", "attention_multiplier": 0.2, "embedding_multiplier": 2, "residual_multiplier": 0.7, "logits_scaling": 3, ` + shape + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			separate, joint := newTrialOf(t, config, false), newTrialOf(t, config, true)
			joined := 0
			for _, p := range joint.params.List {
				if valueOf(p).joint != nil {
					joined++
				}
			}
			if joined < 6 {
				t.Fatalf("%d joint weights, want at least q, k and v of two layers", joined)
			}
			for range 2 { // the second step's gradients overwrite the first's
				loss, want := separate.step(t)
				other, got := joint.step(t)
				if math.Abs(other-loss) > 1e-5*loss {
					t.Errorf("the loss is %v, want %v", other, loss)
				}
				for i, w := range want {
					if off := furthest(got[i], w); off > 1e-5 {
						t.Errorf("the gradient of %s is off by %v", joint.params.Names[i], off)
					}
				}
			}
		})
	}
}

// Gradients with recomputation are those without it: to the bit, unless layers share an input, whose gradients are added in
// another order.
func TestRecompute(t *testing.T) {
	for name, config := range map[string]string{
		"llama": llamaConfig, "gpt2": gptConfig,
		"neox": `{"model_type": "gpt_neox", "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 144, "max_position_embeddings": 96}`,
		"t5":   `{"model_type": "t5", "vocab_size": 300, "d_model": 96, "num_layers": 2, "num_heads": 6, "d_kv": 16, "d_ff": 144, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}`,
	} {
		for _, together := range []bool{false, true} {
			all, again := newTrialOf(t, config, together), newTrialOf(t, config, together)
			if name == "t5" {
				source := ops.NewBatch(all.batch.IDs[:40], all.batch.IDs[40:80], all.batch.IDs[80:120], all.batch.IDs[120:160])
				all.batch.Source, again.batch.Source = &source, &source
			}
			loss, want := all.step(t)
			for _, r := range []ops.Recompute{ops.RecomputeAttention, ops.RecomputeLayer} {
				again.model.SetRecompute(r)
				for range 2 {
					other, got := again.step(t)
					if other != loss {
						t.Errorf("%s, recompute %d: the loss is %v, want %v", name, r, other, loss)
					}
					for i, w := range want {
						if off := furthest(got[i], w); off > 0 && name != "t5" || off > 1e-5 {
							t.Errorf("%s, recompute %d: another gradient of %s", name, r, all.params.Names[i])
						}
					}
				}
			}
		}
	}
}

// furthest returns the largest difference between two gradients.
func furthest(a, b []float32) (most float64) {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	for i, x := range a {
		most = max(most, math.Abs(float64(x-b[i])))
	}
	return most
}

// The results of Linears give the gradients of separate layers also if some are not used, if a weight is also used by itself or
// frozen, and if gradients are added up.
func TestLinears(t *testing.T) {
	const n, in, out = 5, 6, 4
	sizes := []int{3, 2, 2}
	for _, c := range []struct {
		name   string
		used   []int // results that the loss depends on
		apart  int   // a weight that is also used by itself; -1: none
		frozen int   // -1: none
	}{
		{"all", []int{0, 1, 2}, -1, -1},
		{"some", []int{0, 2}, -1, -1},
		{"one by itself too", []int{0, 1, 2}, 1, -1},
		{"one by itself before the others", []int{1, 0, 2}, 2, -1},
		{"one frozen", []int{0, 1, 2}, -1, 1},
	} {
		gradients := func(together, biased bool) (all [][]float32) {
			d, r := devicetest.NewScarce(), rand.New(rand.NewPCG(1, 2))
			random := func(n int) []float32 {
				x := make([]float32, n)
				for i := range x {
					x[i] = float32(r.NormFloat64())
				}
				return x
			}
			e := New(d)
			weights, biases := &joint{device: d, cols: in}, &joint{device: d, cols: 1}
			for _, rows := range sizes {
				weights.rows += rows
				biases.rows += rows
			}
			var params []*nn.Param
			trained := func(v *value) mat.Tensor {
				params = append(params, &nn.Param{Matrix: v})
				return params[len(params)-1]
			}
			placed := func(j *joint, rows int) mat.Tensor {
				data := random(rows * j.cols)
				if together {
					return trained(j.place(rows, data))
				}
				return trained(newValue(d, d.Put(data), rows, j.cols))
			}
			x := trained(newValue(d, d.Put(random(n*in)), n, in))
			var layers []ops.Linear[mat.Tensor]
			for _, rows := range sizes {
				l := ops.Linear[mat.Tensor]{W: placed(weights, rows), HasBias: biased}
				if biased {
					l.Bias = placed(biases, rows)
				}
				layers = append(layers, l)
			}
			if c.frozen >= 0 {
				layers[c.frozen].W.(*nn.Param).SetRequiresGrad(false)
			}
			var heads []ops.Linear[mat.Tensor]
			for _, rows := range sizes {
				heads = append(heads, ops.Linear[mat.Tensor]{W: e.Constant(random(out*rows), out, rows)})
			}
			target := random(n * out)
			for range 2 {
				ys := e.Linears(x, layers)
				var sum mat.Tensor
				for _, i := range c.used {
					y := e.Linear(ys[i], heads[i])
					if sum == nil {
						sum = y
					} else {
						sum = e.Add(sum, y)
					}
				}
				if c.apart >= 0 {
					sum = e.Add(sum, e.Linear(e.Linear(x, layers[c.apart]), heads[c.apart]))
				}
				if err := backwardError(e, sum, target, 1); err != nil {
					t.Fatal(err)
				}
			}
			if d.Misused != nil {
				t.Error(d.Misused)
			}
			for _, p := range params {
				if g := Grad(p); !g.None() {
					all = append(all, g.F32())
				} else {
					all = append(all, make([]float32, p.Size()))
				}
			}
			return all
		}
		for _, biased := range []bool{false, true} {
			want, got := gradients(false, biased), gradients(true, biased)
			for i, w := range want {
				if off := furthest(got[i], w); !(off < 1e-3) {
					t.Errorf("%s, biases %v: gradient %d is off by %v: %v, want %v", c.name, biased, i, off, got[i], w)
				}
			}
		}
	}
}

// A function whose result is columns of a product can be recomputed.
func TestRecomputeColumns(t *testing.T) {
	gradients := func(again bool) (all [][]float32) {
		d := devicetest.NewScarce()
		e, j := New(d), &joint{device: d, rows: 5, cols: 2}
		var layers []ops.Linear[mat.Tensor]
		for _, rows := range []int{3, 2} {
			layers = append(layers, ops.Linear[mat.Tensor]{W: &nn.Param{Matrix: j.place(rows, []float32{1, 2, 3, 4, 5, 6}[:2*rows])}})
		}
		x := e.Trainable([]float32{1, -2, 3, 0.5}, 2, 2)
		f := func(in []mat.Tensor) mat.Tensor { return e.Linears(in[0], layers)[1] }
		var y mat.Tensor
		if again {
			y = e.Recompute(f, x)
		} else {
			y = f([]mat.Tensor{x})
		}
		y = e.Linear(y, ops.Linear[mat.Tensor]{W: e.Constant([]float32{1, 1, 1, -1}, 2, 2)})
		if err := backwardError(e, y, []float32{1, 2, 3, 4}, 1); err != nil {
			t.Fatal(err)
		}
		for _, p := range []mat.Tensor{x, layers[0].W, layers[1].W} {
			all = append(all, Grad(p.(*nn.Param)).F32())
		}
		return all
	}
	if want, got := gradients(false), gradients(true); !slices.EqualFunc(got, want, slices.Equal[[]float32]) {
		t.Errorf("gradients %v, want %v", got, want)
	}
}

// backwardError runs the backward pass from a squared error.
func backwardError(e *Engine, y Tensor, target []float32, scale float32) error {
	loss, _ := e.SquaredError(y, target, scale)
	return e.Backward(loss)
}

// products counts matrix products.
type products struct {
	device.Device
	n int
}

func (d *products) Gemm(ta, tb bool, m, n, k int, alpha float32, a device.Buffer, lda int, b device.Buffer, ldb int, beta float32, c device.Buffer, ldc int) {
	d.n++
	d.Device.Gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// The last product of a function that is recomputed is not made again: nothing reads it.
func TestRecomputeSkipsLastProduct(t *testing.T) {
	d := &products{Device: cpu.New()}
	e := New(d)
	layer := ops.Linear[mat.Tensor]{W: e.Trainable([]float32{1, 2, 3, 4}, 2, 2)}
	y := e.Recompute(func(in []mat.Tensor) mat.Tensor {
		x := e.Linear(in[0], layer)
		return e.Add(in[0], e.Linear(x, layer))
	}, e.Trainable([]float32{1, -2, 3, 0.5}, 2, 2))
	forward := d.n
	if err := backwardError(e, y, []float32{1, 2, 3, 4}, 1); err != nil {
		t.Fatal(err)
	}
	if again := d.n - forward - 2*2; forward != 2 || again != 1 {
		t.Errorf("%d products forward, want 2; %d again, want 1", forward, again)
	}
}
