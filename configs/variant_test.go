package configs

import (
	"strings"
	"testing"
)

const variantFamily = `
family: x
model_types: [x]
config:
  vocab: {default: 8}
  dim: {default: 8}
  layers: {default: 1}
  heads: {default: 4}
  kv_heads: {keys: [kv.heads], default: heads}
  head_dim: {default: dim / heads}
  ffn: {default: 8}
  context: {default: 8}
attention: {layout: fused_per_head}
groups: {key: kv.heads, layout: fused_blocks, single: {set: {multi_query: true}, class: X}}
tensors:
  embed: {name: e, shape: [vocab, dim]}
layer:
  attn_norm: {name: "{layer}.a", shape: [dim]}
  mlp_norm: {name: "{layer}.m", shape: [dim]}
variants:
  - when: {multi_query: true}
    config:
      kv_heads: {default: 1}
  - when: {kind: [two, "3.*"], deep.one: 1}
    note: look
    attention: {layout: fused_blocks}
    groups: {key: other}
    layer:
      attn_norm: {name: "{layer}.b", shape: [dim]}
      mlp_norm: null
`

func TestVariants(t *testing.T) {
	f, err := parseFamily([]byte(variantFamily))
	if err != nil {
		t.Fatal(err)
	}
	for config, applies := range map[string]bool{
		`{"kind": "two", "deep": {"one": 1}}`:   true,
		`{"kind": "3.4", "deep": {"one": 1}}`:   true,
		`{"kind": "4.4", "deep": {"one": 1}}`:   false,
		`{"kind": "two", "deep": {"one": 2}}`:   false,
		`{"kind": "two"}`:                       false,
		`{"kind": null, "deep": {"one": null}}`: false,
	} {
		raw, err := parseConfig([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		v := f.variant(raw)
		_, hasNorm := v.Layer[MLPNorm]
		changed := v.Layer[AttnNorm].Name == "{layer}.b" && !hasNorm && v.Grouping(2).Key == "other" && v.Attention.Layout == FusedBlocks
		if changed != applies || (len(f.notes(raw)) == 1) != applies {
			t.Errorf("%s: changed %v with notes %q, want %v", config, changed, f.notes(raw), applies)
		}
	}
	if f.Layer[AttnNorm].Name != "{layer}.a" || f.Layer[MLPNorm].Name == "" {
		t.Error("a variant changed the family itself")
	}
}

func TestGrouping(t *testing.T) {
	f, err := parseFamily([]byte(variantFamily))
	if err != nil {
		t.Fatal(err)
	}
	if g := f.Grouping(2); g.Class != "" || len(g.Set) != 0 || g.Layout != FusedBlocks {
		t.Errorf("two groups are written as %+v", g)
	}
	if g := f.Grouping(1); g.Class != "X" || g.Set["multi_query"] != true || g.Key != "kv.heads" || g.Layout != FusedBlocks {
		t.Errorf("one group is written as %+v", g)
	}
}

// TestVariantErrors: what a variant holds is checked like the rest of the file.
func TestVariantErrors(t *testing.T) {
	for bad, want := range map[string]string{
		"attn_norm: {name: \"{layer}.b\", shape: [dim]}": "attn_norm: {name: b, shape: [dim]}",
		"attention: {layout: fused_blocks}":              "attention: {layout: sideways}",
		"kv_heads: {default: 1}":                         "kv_headz: {default: 1}",
	} {
		if _, err := parseFamily([]byte(strings.Replace(variantFamily, bad, want, 1))); err == nil || !strings.Contains(err.Error(), "variant map[") {
			t.Errorf("%s: %v, want an error that names the variant", want, err)
		}
	}
}

func TestALiBiSlopes(t *testing.T) {
	for heads, want := range map[int][]float64{
		1: {1. / 256},
		4: {1. / 4, 1. / 16, 1. / 64, 1. / 256},
		6: {1. / 4, 1. / 16, 1. / 64, 1. / 256, 1. / 2, 1. / 8},
	} {
		got := ALiBi{Max: 8}.Slopes(heads)
		for h := range want {
			if got[h] != want[h] {
				t.Errorf("%d heads: slopes %v, want %v", heads, got, want)
				break
			}
		}
	}
}
