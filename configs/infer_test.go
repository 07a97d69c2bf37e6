package configs

import (
	"reflect"
	"strings"
	"testing"
)

// TestInfer reads a config.json back off the shapes of a checkpoint that fits it: all but what no shape tells.
func TestInfer(t *testing.T) {
	for name, config := range map[string]string{
		"llama":                 smallLlama,
		"llama of one KV head":  strings.Replace(smallLlama, `"num_key_value_heads": 2`, `"num_key_value_heads": 1`, 1),
		"llama, wide heads":     strings.Replace(smallLlama, "{", `{"head_dim": 6, "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, `, 1),
		"gpt_neox":              smallNeoX,
		"gpt_neox without bias": strings.Replace(smallNeoX, "{", `{"attention_bias": false, "tie_word_embeddings": true, `, 1),
		"gpt_neox, grouped":     strings.Replace(smallNeoX, "{", `{"num_key_value_heads": 2, `, 1),
		"gpt2":                  smallGPT2,
		"gpt2, own head":        strings.Replace(smallGPT2, "{", `{"tie_word_embeddings": false, "n_inner": 20, `, 1),
		"gpt2, multi-query":     strings.Replace(smallGPT2, "{", `{"num_key_value_heads": 1, `, 1),
	} {
		t.Run(name, func(t *testing.T) {
			want := resolve(t, config)
			shapes := shapesOf(t, want)
			inferred, err := Infer(want.Family.Name, want.Heads, shapes)
			if err != nil {
				t.Fatal(err)
			}
			got := resolve(t, string(inferred))
			if err := got.Bind(shapes); err != nil {
				t.Fatal(err)
			}
			if want.Position == PositionRope {
				want.Context = 2048 // told by no shape: the class's default
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("inferred %s:\n%+v, want\n%+v", inferred, got, want)
			}
		})
	}
}

// TestInferWithoutPrefix finds biases and sizes under the other prefix.
func TestInferWithoutPrefix(t *testing.T) {
	a := resolve(t, smallGPT2)
	shapes := map[string][]int{}
	for name, shape := range shapesOf(t, a) {
		shapes[strings.TrimPrefix(name, "transformer.")] = shape
	}
	inferred, err := Infer("gpt2", 4, shapes)
	if err != nil {
		t.Fatal(err)
	}
	if got := resolve(t, string(inferred)); !reflect.DeepEqual(sizes(got), sizes(a)) {
		t.Errorf("sizes %v, want %v", sizes(got), sizes(a))
	}
}

func TestInferNamesWhatIsWrong(t *testing.T) {
	shapes := shapesOf(t, resolve(t, smallLlama)) // 8 query dims, 4 key dims
	for _, c := range []struct {
		family string
		heads  int
		shapes map[string][]int
		want   string
	}{
		{"elmo", 4, shapes, `unknown family "elmo"; known: `},
		{"llama", 0, shapes, "heads is 0, want the checkpoint's number of query heads"},
		{"llama", 3, shapes, "heads is 3, which does not divide the 8 query dims of the tensors"},
		{"llama", 1, shapes, "heads is 1, but heads of 8 dims do not fit the 4 key dims of the tensors"},
		{"gpt2", 4, shapes, "no tensor has a name that family gpt2 gives to its layers' (such as transformer.h.0.ln_1.weight)"},
		{"llama", 4, nil, "no tensor has a name that family llama gives"},
		{"llama", 4, map[string][]int{".weight": nil}, "no tensor has a name that family llama gives"},
	} {
		_, err := Infer(c.family, c.heads, c.shapes)
		wantError(t, err, c.want)
	}
}

// TestInferOfParts leaves it to Bind to say what is missing or misshapen.
func TestInferOfParts(t *testing.T) {
	for _, shapes := range []map[string][]int{
		{"model.layers.0.self_attn.k_proj.weight": {4, 8}},
		{"model.layers.0.self_attn.q_proj.weight": {8}},
		{"model.layers.0.self_attn.q_proj.weight": {0, 0}, "model.layers.0.self_attn.k_proj.weight": {0, 0}},
	} {
		inferred, err := Infer("llama", 4, shapes)
		if err != nil {
			t.Errorf("%v: %v", shapes, err)
			continue
		}
		if a, err := Resolve(inferred, ""); err == nil {
			wantError(t, a.Bind(shapes), "missing: model.embed_tokens.weight [32000 ")
		}
	}
}
