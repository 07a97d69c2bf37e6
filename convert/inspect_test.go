package convert

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/golden"
)

func TestInspect(t *testing.T) {
	config := with(llamaConfig, "num_key_value_heads", "4")
	got, err := Inspect(golden.Open(t, model{config: config, dtype: checkpoints.BF16}.write(t)), DefaultSites)
	if err != nil {
		t.Fatal(err)
	}
	want := &Inspection{
		Family: "llama", Layers: 2, Dim: 16, Heads: 8, KVHeads: 4, HeadDim: 2, Vocab: 6, Context: 32, Parameters: 2384, DType: "BF16",
		Layout: "separate", Targets: []TargetInfo{
			{Target: Native, LoadsIn: []string{"transformers LlamaForCausalLM"}},
			{Target: Own, LoadsIn: []string{"gqa", "transformers LlamaForCausalLM"}},
			{Target: Expanded, LoadsIn: []string{"gqa", "whatever loads llama"}},
			{Target: GGUF, LoadsIn: []string{"llama.cpp (llama)"}, Notes: []Note{{Text: "there is no tokenizer beside the weights: llama.cpp takes token ids only"}}},
			{Target: MLA, LoadsIn: []string{"gqa"}},
			{Target: DeepSeek, WhyNot: got.Targets[5].WhyNot},
		}, Rows: []Row{
			{4, nil, nil, 64, 0, 2048, 544, 2384, []int{1, 2, 4}},
			{2, nil, nil, 32, 0, 1024, 272, 2112, []int{1, 2}},
			{1, nil, nil, 16, 0, 512, 136, 1976, []int{1}},
		},
		LatentRows: []Row{ // of a half and of a quarter of the cache; projections to and from the latent
			{0, nil, &Latent{Rank: 6, RopeDim: 2, NopeDim: 2, ValueDim: 2}, 32, 0, 1024, 2 * ((6+2)*17 + 8*4*6), 3040, []int{1}},
			{0, nil, &Latent{Rank: 2, RopeDim: 2, NopeDim: 2, ValueDim: 2}, 16, 0, 512, 2 * ((2+2)*17 + 8*4*2), 2648, []int{1}},
		},
		Sites: []SiteHeads{{configs.DecoderSelf, 2, 4, true}},
	}
	if why := fmt.Sprint(got.Targets[5].WhyNot); !strings.Contains(why, "DeepseekV3ForCausalLM: has no biases of queries") {
		t.Errorf("no target %s: %s", DeepSeek, why)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want\n%+v", got, want)
	}
}

func TestInspectOfNoFloats(t *testing.T) {
	in, err := Inspect(golden.Open(t, model{config: strings.Replace(llamaConfig, `, "attention_bias": true`, "", 1), dtype: checkpoints.I8}.write(t)), DefaultSites)
	if err != nil {
		t.Fatal(err)
	}
	if want := "model.layers.0.self_attn.k_proj.weight is I8"; in.NotFloat != want {
		t.Errorf("not float: %q, want %q", in.NotFloat, want)
	}
	for _, info := range in.Targets {
		if info.WhyNot == nil || !strings.Contains(info.WhyNot.String(), "convert the unquantised checkpoint") {
			t.Errorf("%s: why not: %v", info.Target, info.WhyNot)
		}
	}
}
