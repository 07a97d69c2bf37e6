package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestNaming adds what trainers add to the names of every family's tensors, and recovers the names.
func TestNaming(t *testing.T) {
	families, err := Families()
	if err != nil {
		t.Fatal(err)
	}
	before := []string{"", "_orig_mod.", "module.", "model.", "base_model.model.", "module._orig_mod.", "model._orig_mod.", "net.lm.", "_forward_module.module."}
	for _, f := range families {
		var names []string
		for _, entries := range []map[Role]TensorEntry{f.Tensors, f.Layer} {
			for _, e := range entries {
				for layer := range 2 {
					if e.Name != "" {
						names = append(names, strings.ReplaceAll(expandName(e.Name, f.Prefixes[0], layer), "{head}", "1")+".weight")
					}
				}
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		for _, wrapper := range before {
			wrapped := map[string]string{}
			for _, name := range names {
				wrapped[wrapper+name] = name
			}
			n := f.Naming(slices.Collect(maps.Keys(wrapped)))
			for name, want := range wrapped {
				if got := n.Name(name); got != want || n.Prefix != f.Prefixes[0] || !n.Fits || !n.Knows(got) {
					t.Errorf("family %s: %s is %s, want %s; prefix %q", f.Name, name, got, want, n.Prefix)
				}
			}
		}
	}
}

func TestNamingBetween(t *testing.T) {
	n := resolve(t, smallLlama).Family.Naming([]string{
		"model.embed_tokens.weight", "model.layers.0._orig_mod.self_attn.q_proj.base_layer.weight", "lm_head.weight", "model._fsdp_wrapped_module.norm.weight",
	})
	for name, want := range map[string]string{
		"model.layers.0._orig_mod.self_attn.q_proj.base_layer.weight": "model.layers.0.self_attn.q_proj.weight",
		"model._fsdp_wrapped_module.norm.weight":                      "model.norm.weight",
		"lm_head.weight":                                              "lm_head.weight",
	} {
		if got := n.Name(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestNamingOfOthers leaves another family's names unchanged.
func TestNamingOfOthers(t *testing.T) {
	n := resolve(t, smallGPT2).Family.Naming([]string{"model.norm.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.c_fc.weight"})
	if n.Fits || n.Wrapper != "" {
		t.Errorf("fits %v, wrapper %q", n.Fits, n.Wrapper)
	}
}

func TestIsTable(t *testing.T) {
	for name, want := range map[string]bool{
		"model.layers.0.self_attn.rotary_emb.inv_freq": true, "model.rotary_emb.inv_freq": true, "rotary_emb.cos_cached": true,
		"h.0.attn.masked_bias": true, "h.0.attn.bias": true, "layers.0.attention.bias": true, "embeddings.position_ids": true,
		"h.0.mlp.bias": false, "model.norm.weight": false, "h.0.attn.c_attn.weight": false, "bias": false,
	} {
		if got := IsTable(name, []int{1, 1, 4, 4}); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if IsTable("h.0.attn.bias", []int{4}) {
		t.Error("a vector is a bias")
	}
}

func TestStandIns(t *testing.T) {
	for config, want := range map[string]string{
		smallLlama: "map[]",
		strings.Replace(smallLlama, "{", `{"tie_word_embeddings": true, `, 1): "map[model.embed_tokens.weight:[lm_head.weight]]",
		smallGPT2:              "map[transformer.wte.weight:[lm_head.weight]]",
		`{"model_type": "t5"}`: "map[shared.weight:[encoder.embed_tokens.weight decoder.embed_tokens.weight lm_head.weight]]",
		`{"model_type": "t5", "tie_word_embeddings": false}`: "map[shared.weight:[encoder.embed_tokens.weight decoder.embed_tokens.weight]]",
		`{"model_type": "bert"}`:                             "map[bert.embeddings.word_embeddings.weight:[cls.predictions.decoder.weight] cls.predictions.bias:[cls.predictions.decoder.bias]]",
	} {
		a := resolve(t, config)
		got := a.Family.StandIns(a.Prefix, a.MayTie())
		if text := fmt.Sprint(got); text != want {
			t.Errorf("%s: %s, want %s", a.Family.Name, text, want)
		}
	}
}
