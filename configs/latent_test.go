package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// latent are the keys of a small latent attention, for small.
const latent = `"kv_lora_rank": 5, "qk_rope_head_dim": 2, "qk_nope_head_dim": 3, "v_head_dim": 4, "first_k_dense_replace": 1`

func TestLatentFamilies(t *testing.T) {
	a := resolve(t, small("deepseek_v3", latent+`, "q_lora_rank": 6, "attention_bias": true`))
	want := Latent{Rank: 5, QueryRank: 6, NopeDim: 3, RopeDim: 2, ValueDim: 4, NormEps: 1e-6}
	if fmt.Sprint(a.Latent) != fmt.Sprint(want) || !a.IsLatent() || a.HeadDim != 5 || a.ValueDim() != 4 || a.KVHeads != a.Heads || !a.RopeInterleaved {
		t.Errorf("%s attention %+v, heads of %d, %d KV heads; want %+v", a.Attention, a.Latent, a.HeadDim, a.KVHeads, want)
	}
	if got, want := a.KVBytesPerToken(2), int64(a.Layers*(5+2)*2); got != want {
		t.Errorf("%d bytes per token, want %d", got, want)
	}
	if legal := a.LegalGroups(); !slices.Equal(legal, []int{a.Heads}) {
		t.Errorf("group counts %v", legal)
	}
	if len(a.Unknown) > 0 {
		t.Errorf("unknown keys %v", a.Unknown)
	}
	for config, want := range map[string]string{
		small("deepseek_v3", strings.Replace(latent, `"first_k_dense_replace": 1`, `"first_k_dense_replace": 0`, 1)): "first_k_dense_replace is 0 of 1 layers: mixtures of experts are not supported",
		small("deepseek_v2", latent+`, "num_key_value_heads": 2`):                                                    "2 kv heads for 4 heads: latent attention gives each head",
		small("deepseek_v2", strings.Replace(latent, `"qk_rope_head_dim": 2`, `"qk_rope_head_dim": 3`, 1)):           "a rotary key of 3 dims, want an even number",
		small("deepseek_v2", strings.Replace(latent, `"qk_nope_head_dim": 3`, `"qk_nope_head_dim": 0`, 1)):           "no dims without positions",
	} {
		if _, err := Resolve([]byte(config), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", config, err, want)
		}
	}
}

// TestLatentRows holds the rows of the weights of the forward pass to the layout of the checkpoint.
func TestLatentRows(t *testing.T) {
	a := resolve(t, small("deepseek_v3", latent+`, "q_lora_rank": 6`))
	params, err := a.Params()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[Role][]int{}
	for _, p := range params {
		rows[p.Role] = p.Rows
		if p.Rows != nil && len(p.Rows) != p.Shape[0] {
			t.Errorf("%s has %d rows, and the shape %v", p.Name, len(p.Rows), p.Shape)
		}
	}
	for role, want := range map[Role][]int{
		QNope: {0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17}, QRope: {3, 4, 8, 9, 13, 14, 18, 19},
		KRope: {5, 6}, LatentKV: {0, 1, 2, 3, 4},
		KeyUp: {0, 1, 2, 7, 8, 9, 14, 15, 16, 21, 22, 23}, ValueUp: {3, 4, 5, 6, 10, 11, 12, 13, 17, 18, 19, 20, 24, 25, 26, 27},
	} {
		if !slices.Equal(rows[role], want) {
			t.Errorf("%s is rows %v, want %v", role, rows[role], want)
		}
	}
}

func TestScoreFactor(t *testing.T) {
	yarn := `, "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}`
	r := resolve(t, small("deepseek_v3", latent+yarn)).Rope
	if got, want := r.ScoreFactor(), 1.3688879454*1.3688879454; got < want-1e-6 || got > want+1e-6 {
		t.Errorf("the factor of scores is %v, want %v", got, want)
	}
	if r.Scale() != 1 {
		t.Errorf("the factor of cosines is %v, want 1", r.Scale())
	}
}

// ownLayout returns the config.json of the small model in the own layout of latent attention.
func ownLayout(t *testing.T, config string, layers []Latent) string {
	t.Helper()
	a := resolve(t, config)
	changes, err := a.LatentChanges([]byte(config), layers, 0.25)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := parseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	setKeys(keys, changes)
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOwnLayout(t *testing.T) {
	l := Latent{Rank: 6, NopeDim: 3, RopeDim: 4, ValueDim: 2, InvFreq: []float64{1, 1}}
	narrow := Latent{Rank: 5, NopeDim: 3, RopeDim: 2, ValueDim: 2, InvFreq: []float64{0.5}}
	for name, c := range map[string]struct {
		config string
		layers []Latent
		module string
	}{
		"llama":          {smallLlama, []Latent{l}, "model.layers.0.self_attn."},
		"gpt_neox":       {smallNeoX, []Latent{l}, "gpt_neox.layers.0.attention."},
		"mistral":        {small("mistral", `"sliding_window": 7, "num_key_value_heads": 2`), []Latent{l}, "model.layers.0.self_attn."},
		"by layer":       {strings.Replace(smallLlama, `"num_hidden_layers": 1`, `"num_hidden_layers": 2`, 1), []Latent{l, narrow}, "model.layers.0.self_attn."},
		"fused, chatglm": {small("chatglm", chatglm), []Latent{l}, "transformer.encoder.layers.0.self_attention."},
	} {
		config := ownLayout(t, c.config, c.layers)
		a := resolve(t, config)
		plain := resolve(t, c.config)
		if !a.IsLatent() || a.ScoreScale != 0.25 || a.KVHeads != a.Heads || len(a.Unknown) > len(plain.Unknown) || a.LayerWindow(0) != plain.LayerWindow(0) {
			t.Errorf("%s: %s gives %+v", name, config, a)
		}
		for i, want := range c.layers {
			got := a.At(i).Latent
			if got.Rank != want.Rank || got.RopeDim != want.RopeDim || !slices.Equal(got.InvFreq, want.InvFreq) || a.At(i).HeadDim != want.HeadDim() {
				t.Errorf("%s: layer %d is %+v, want %+v", name, i, got, want)
			}
		}
		shapes := map[string][]int{}
		tensors, err := a.Tensors()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tensors {
			shapes[x.Name] = x.Shape
		}
		if got := shapes[c.module+"kv_a_proj_with_mqa.weight"]; !slices.Equal(got, []int{6 + 4, a.Dim}) {
			t.Errorf("%s: kv_a is %v; tensors %v", name, got, slices.Sorted(maps.Keys(shapes)))
		}
		shapes[c.module+"q_proj.bias"] = []int{a.Heads * 7}
		if err := a.Bind(shapes); err != nil && len(c.layers) == 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOwnLayoutErrors(t *testing.T) {
	config := ownLayout(t, smallLlama, []Latent{{Rank: 6, NopeDim: 3, RopeDim: 4, ValueDim: 2, InvFreq: []float64{1, 0.5}}})
	for _, c := range []struct{ old, with, want string }{
		{`"mla":`, `"other":`, `model_type is "llama_mla", but there is no "mla"`},
		{`[1,0.5]`, `[1]`, "mla.inv_freq has 1 numbers, want 2"},
		{`[1,0.5]`, `[1,-1]`, "mla.inv_freq has -1, want numbers from 0 to π"},
		{`[1,0.5]`, `[[1,0.5],[1]]`, "mla.inv_freq has 2 lists, want 1"},
		{`[1,0.5]`, `[[1]]`, "has 1 numbers in its longest list, want 2"},
		{`"softmax_scale":0.25`, `"softmax_scale":0`, "mla.softmax_scale is 0, want a positive number"},
		{`"softmax_scale":0.25`, `"softmax_scale":0.25,"kv_lora_rank_per_layer":[7]`, "has 7 for layer 0, want a whole number from 1 to kv_lora_rank 6"},
		{`"softmax_scale":0.25`, `"softmax_scale":0.25,"kv_lora_rank_per_layer":[5]`, "has 5 as its largest number"},
		{`"softmax_scale":0.25`, `"softmax_scale":0.25,"scale":1`, `mla has an unknown key "scale"`},
		{`"kv_lora_rank":6`, `"rank":6`, "kv_lora_rank is missing"},
	} {
		if !strings.Contains(config, c.old) {
			t.Fatalf("%s is not in %s", c.old, config)
		}
		if _, err := Resolve([]byte(strings.Replace(config, c.old, c.with, 1)), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.with, err, c.want)
		}
	}
	gpt2 := strings.Replace(smallGPT2, "{", `{"mla": {"softmax_scale": 1, "inv_freq": [1]}, "kv_lora_rank": 4, "qk_rope_head_dim": 2, "qk_nope_head_dim": 1, "v_head_dim": 2, `, 1)
	if _, err := Resolve([]byte(gpt2), ""); err == nil || !strings.Contains(err.Error(), "latent attention is for decoders with rotary positions") {
		t.Errorf("gpt2: error %v", err)
	}
}

// The sizes to which attention can become latent: shares of the cache, and those of FlashMLA's kernels where they save something.
func TestLatentChoices(t *testing.T) {
	llama := func(heads, kvHeads, headDim int) string {
		return fmt.Sprintf(`{"model_type": "llama", "vocab_size": 5, "hidden_size": %d, "intermediate_size": 4, "num_hidden_layers": 2,
			"num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d}`, heads*headDim, heads, kvHeads, headDim)
	}
	for _, c := range []struct{ name, config, want string }{
		{"Llama 2 7B", llama(32, 32, 128), "3072+1024 1536+512 768+256 512+64 384+128"},
		{"Llama 3 8B", llama(32, 8, 128), "768+256 512+64 384+128 192+64 96+32"},
		{"one KV head", llama(4, 1, 16), "12+4 6+2 2+2"}, // a sixteenth has room for a rotary key only
		{"few rotary dims", `{"model_type": "gpt_neox", "vocab_size": 5, "hidden_size": 64, "intermediate_size": 4, "num_hidden_layers": 2,
			"num_attention_heads": 4, "rotary_pct": 0.125}`, "56+8 24+8 12+4 6+2"},
		{"no rotary positions", `{"model_type": "gpt2", "vocab_size": 5, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}`, ""},
		{"latent already", small("deepseek_v3", latent), ""},
	} {
		a := resolve(t, c.config)
		var got []string
		for _, l := range a.LatentChoices() {
			got = append(got, fmt.Sprintf("%d+%d", l.Rank, l.RopeDim))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}
