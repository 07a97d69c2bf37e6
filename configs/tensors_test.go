package configs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shapesOf lists the tensors that a must have, as Bind wants a checkpoint's.
func shapesOf(t testing.TB, a *Arch) map[string][]int {
	t.Helper()
	tensors, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	shapes := make(map[string][]int, len(tensors))
	for _, x := range tensors {
		shapes[x.Name] = x.Shape
	}
	return shapes
}

const (
	smallLlama = `{"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 4,
		"num_key_value_heads": 2, "max_position_embeddings": 16}`
	smallNeoX = `{"model_type": "gpt_neox", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
		"num_attention_heads": 4, "max_position_embeddings": 16}`
	smallGPT2 = `{"model_type": "gpt2", "vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 4, "n_positions": 16}`
)

// TestTensors compares with what transformers' classes call their tensors.
func TestTensors(t *testing.T) {
	for config, want := range map[string]string{
		smallLlama: `model.embed_tokens.weight [10 8]
			model.norm.weight [8]
			lm_head.weight [10 8]
			model.layers.0.input_layernorm.weight [8]
			model.layers.0.self_attn.q_proj.weight [8 8]
			model.layers.0.self_attn.k_proj.weight [4 8]
			model.layers.0.self_attn.v_proj.weight [4 8]
			model.layers.0.self_attn.o_proj.weight [8 8]
			model.layers.0.post_attention_layernorm.weight [8]
			model.layers.0.mlp.gate_proj.weight [12 8]
			model.layers.0.mlp.up_proj.weight [12 8]
			model.layers.0.mlp.down_proj.weight [8 12]`,
		smallNeoX: `gpt_neox.embed_in.weight [10 8]
			gpt_neox.final_layer_norm.weight [8]
			gpt_neox.final_layer_norm.bias [8]
			embed_out.weight [10 8]
			gpt_neox.layers.0.input_layernorm.weight [8]
			gpt_neox.layers.0.input_layernorm.bias [8]
			gpt_neox.layers.0.attention.query_key_value.weight [24 8]
			gpt_neox.layers.0.attention.query_key_value.bias [24]
			gpt_neox.layers.0.attention.dense.weight [8 8]
			gpt_neox.layers.0.attention.dense.bias [8]
			gpt_neox.layers.0.post_attention_layernorm.weight [8]
			gpt_neox.layers.0.post_attention_layernorm.bias [8]
			gpt_neox.layers.0.mlp.dense_h_to_4h.weight [12 8]
			gpt_neox.layers.0.mlp.dense_h_to_4h.bias [12]
			gpt_neox.layers.0.mlp.dense_4h_to_h.weight [8 12]
			gpt_neox.layers.0.mlp.dense_4h_to_h.bias [8]`,
		smallGPT2: `transformer.wte.weight [10 8]
			transformer.wpe.weight [16 8]
			transformer.ln_f.weight [8]
			transformer.ln_f.bias [8]
			transformer.h.0.ln_1.weight [8]
			transformer.h.0.ln_1.bias [8]
			transformer.h.0.attn.c_attn.weight [8 24]
			transformer.h.0.attn.c_attn.bias [24]
			transformer.h.0.attn.c_proj.weight [8 8]
			transformer.h.0.attn.c_proj.bias [8]
			transformer.h.0.ln_2.weight [8]
			transformer.h.0.ln_2.bias [8]
			transformer.h.0.mlp.c_fc.weight [8 32]
			transformer.h.0.mlp.c_fc.bias [32]
			transformer.h.0.mlp.c_proj.weight [32 8]
			transformer.h.0.mlp.c_proj.bias [8]`,
	} {
		tensors, err := resolve(t, config).Tensors()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range tensors {
			got = append(got, fmt.Sprint(x.Name, " ", x.Shape))
		}
		if want := strings.Split(strings.ReplaceAll(want, "\t", ""), "\n"); !slices.Equal(got, want) {
			t.Errorf("tensors\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestBindAccountsForEveryTensor(t *testing.T) {
	a := resolve(t, smallLlama)
	if err := a.Bind(shapesOf(t, a)); err != nil {
		t.Fatal(err)
	}
	shapes := shapesOf(t, a)
	delete(shapes, "model.norm.weight")
	delete(shapes, "model.layers.0.mlp.up_proj.weight")
	shapes["model.layers.0.self_attn.k_proj.weight"] = []int{8, 8}
	shapes["lm_head.weight"] = []int{80}
	shapes["zeta"], shapes["model.layers.1.self_attn.k_proj.weight"] = []int{1}, []int{4, 8}
	wantError(t, a.Bind(shapes), "the tensors do not fit family llama with this config.json; "+
		"missing: model.norm.weight [8], model.layers.0.mlp.up_proj.weight [12 8]; "+
		"wrong shape: lm_head.weight is [80], want [10 8], model.layers.0.self_attn.k_proj.weight is [8 8], want [4 8]; "+
		"unknown: model.layers.1.self_attn.k_proj.weight, zeta")
}

func TestBindOtherFamily(t *testing.T) {
	llama, gpt2 := resolve(t, smallLlama), resolve(t, smallGPT2)
	wantError(t, llama.Bind(shapesOf(t, gpt2)), "no tensor has a name that family llama knows (such as model.embed_tokens.weight); is it another family? it holds transformer.h.0.attn.c_attn.bias, ", ", … (16 tensors), as family gpt2 or gpt_bigcode has them")
	shapes := shapesOf(t, gpt2)
	shapes["lm_head.weight"] = []int{10, 8} // which many families have
	wantError(t, llama.Bind(shapes), "no layer has a tensor that family llama knows (such as model.layers.0.input_layernorm.weight); is it another family? it holds ")
}

// TestBindLists checks that long lists are shortened, with their length.
func TestBindLists(t *testing.T) {
	a := resolve(t, smallLlama)
	shapes := shapesOf(t, a)
	for i := range 50 {
		shapes[fmt.Sprintf("extra.%02d", i)] = nil
	}
	err := a.Bind(shapes)
	wantError(t, err, "unknown: extra.00, ", "extra.19, … (50 in all) …, extra.49")
	if strings.Contains(err.Error(), "extra.20") {
		t.Errorf("the list is not shortened: %v", err)
	}
}

// TestBindOfTooManyLayers must fail before it lists a billion layers.
func TestBindOfTooManyLayers(t *testing.T) {
	a := resolve(t, smallLlama)
	shapes := shapesOf(t, a)
	a.Layers = 1 << 30
	wantError(t, a.Bind(shapes), "config.json asks for 1073741824 layers, but there are only 12 tensors")
}

// TestBindCarries accepts tensors that older releases saved beside the weights, and a copy of a tied head.
func TestBindCarries(t *testing.T) {
	for config, extra := range map[string][]string{
		smallNeoX: {"gpt_neox.layers.0.attention.bias", "gpt_neox.layers.0.attention.masked_bias"},
		smallGPT2: {"transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "lm_head.weight"},
		strings.Replace(smallLlama, "{", `{"tie_word_embeddings": true, `, 1): {"lm_head.weight"},
	} {
		a := resolve(t, config)
		shapes := shapesOf(t, a)
		for _, name := range extra {
			shapes[name] = []int{10, 8}
		}
		if err := a.Bind(shapes); err != nil {
			t.Error(err)
		}
		shapes[strings.Replace(extra[0], "0", "1", 1)+"x"] = nil // of a layer that is not there
		wantError(t, a.Bind(shapes), "unknown: ")
	}
}

// TestBindFindsThePrefix finds the prefix of a GPT-2 saved without its language-model class.
func TestBindFindsThePrefix(t *testing.T) {
	a := resolve(t, smallGPT2)
	shapes := map[string][]int{}
	for name, shape := range shapesOf(t, a) {
		shapes[strings.TrimPrefix(name, "transformer.")] = shape
	}
	shapes["h.0.attn.bias"] = []int{1, 1, 16, 16}
	if err := a.Bind(shapes); err != nil {
		t.Fatal(err)
	}
	params, err := a.Params()
	if err != nil || a.Prefix != "" || params[0].Tensor != "wte.weight" {
		t.Errorf("prefix %q, first tensor %s, %v", a.Prefix, params[0].Tensor, err)
	}
}

func TestParams(t *testing.T) {
	params, err := resolve(t, smallGPT2).WithKVHeads(2).Params()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Param{}
	for _, p := range params {
		byName[p.Name] = p
	}
	for name, want := range map[string]Param{
		"embed.weight":       {Role: Embed, Layer: -1, Shape: []int{10, 8}, Tensor: "transformer.wte.weight", Stored: []int{10, 8}},
		"final_norm.bias":    {Role: FinalNorm, Layer: -1, Bias: true, Shape: []int{8}, Tensor: "transformer.ln_f.bias", Stored: []int{8}},
		"layers.0.q.weight":  {Role: Q, Shape: []int{8, 8}, Tensor: "transformer.h.0.attn.c_attn.weight", Stored: []int{8, 16}, Rows: []int{0, 1, 2, 3, 4, 5, 6, 7}, Transposed: true},
		"layers.0.k.weight":  {Role: K, Shape: []int{4, 8}, Tensor: "transformer.h.0.attn.c_attn.weight", Stored: []int{8, 16}, Rows: []int{8, 9, 10, 11}, Transposed: true, KVHeads: 2},
		"layers.0.v.bias":    {Role: V, Bias: true, Shape: []int{4}, Tensor: "transformer.h.0.attn.c_attn.bias", Stored: []int{16}, Rows: []int{12, 13, 14, 15}, KVHeads: 2},
		"layers.0.up.weight": {Role: Up, Shape: []int{32, 8}, Tensor: "transformer.h.0.mlp.c_fc.weight", Stored: []int{8, 32}, Transposed: true},
	} {
		want.Name = name
		if !strings.HasPrefix(name, "layers.") {
			want.Layer = -1
		}
		if got := fmt.Sprintf("%+v", byName[name]); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%s, want %+v", got, want)
		}
	}
	if len(params) != 20 || byName["layers.0.k.weight"].Size() != 32 {
		t.Errorf("%d params, k has %d elements", len(params), byName["layers.0.k.weight"].Size())
	}
}
