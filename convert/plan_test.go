package convert

import (
	"errors"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/target"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

func TestPlanRefuses(t *testing.T) {
	float, grouped := model{config: llamaConfig}.write(t), model{config: with(llamaConfig, "num_key_value_heads", "4")}.write(t)
	multiQuery := model{config: falconConfig}.write(t)
	alibi := model{config: with(with(falconConfig, "multi_query", "false"), "alibi", "true")}.write(t)
	quantised := model{config: llamaConfig, dtype: checkpoints.I8}.write(t)
	for _, c := range []struct {
		dir    string
		o      Options
		groups bool // whether it is about the number of groups
		want   string
	}{
		{float, Options{Goal: Groups(3)}, true, "groups is 3, want a divisor of the checkpoint's 8 KV heads (8 heads): one of [1 2 4 8]"},
		{float, Options{Goal: Groups(0)}, true, "groups is 0"},
		{float, Options{Goal: Groups(-8)}, true, "groups is -8"},
		{float, Options{Goal: Groups(16)}, true, "groups is 16"},
		{grouped, Options{Goal: Groups(8)}, true, "groups is 8, want a divisor of the checkpoint's 4 KV heads (8 heads): one of [1 2 4]"},
		{multiQuery, Options{Goal: Groups(2)}, true, "groups is 2, but the checkpoint's 8 heads share one KV head already (multi-query): there is nothing to merge"},
		{alibi, Options{Goal: Groups(2), Grouping: Similar}, false, "grouping similar reorders heads, but with ALiBi"},
		{float, Options{Goal: Groups(2), Method: "median"}, false, `method "median" is unknown; want one of [mean first random align calibrated]`},
		{float, Options{Goal: Groups(2), Grouping: "near"}, false, `grouping "near" is unknown; want one of [contiguous similar]`},
		{float, Options{Goal: Groups(2), Method: Random, Grouping: Similar}, false, "method random uses none of the heads"},
		{float, Options{Goal: Groups(2), Refine: 5}, false, "refine fits attention on text like that which the model was trained on, and there is none"},
		{float, Options{Goal: Groups(2), Refine: -1, Method: Align}, false, "refine is -1"},
		{float, Options{Goal: Groups(2), Calibration: &calibrate.Data{}}, false, "method mean looks at no text"},
		{float, Options{Goal: Groups(2), Target: "onnx"}, false, `target "onnx" is unknown; want one of [native own expanded gguf mla deepseek_v3]`},
		{float, Options{Goal: Groups(2), DType: checkpoints.I8}, false, "dtype I8 is not one that floats are written in"},
		{quantised, Options{Goal: Groups(2)}, false, "is I8: only float tensors (F64, F32, F16, BF16) can be pooled; convert the unquantised checkpoint"},
		{quantised, Options{Goal: Groups(2), DType: checkpoints.F16}, false, "is I8: only float tensors"},
	} {
		if c.o.Method == "" {
			c.o.Method = Mean
		}
		_, err := NewPlan(golden.Open(t, c.dir), c.o)
		wantError(t, err, c.want)
		if errors.Is(err, ErrGroups) != c.groups {
			t.Errorf("%v: ErrGroups %v, want %v", err, !c.groups, c.groups)
		}
	}
}

func TestPlanSummary(t *testing.T) {
	const full, perGroup = 2928, 2 * (16*2 + 2) * 2 // parameters, and those of one KV head over both layers
	dir := model{config: llamaConfig}.write(t)
	for _, c := range []struct {
		o      Options
		change func(*Summary)
	}{
		{Options{Goal: Groups(2)}, func(*Summary) {}},
		{Options{Goal: Groups(2), Method: First, Seed: 9, DType: checkpoints.F16}, func(s *Summary) { s.Method, s.Seed, s.DType, s.Bytes = First, 9, "F16", s.Bytes/2 }},
		{Options{Goal: Groups(8)}, func(s *Summary) {
			s.Groups, s.TensorsPooled, s.TensorsCopied, s.Bytes, s.Parameters, s.KVBytesPerToken = 8, 0, 29, 4*full, full, 128
			s.KVHeadsBySite = map[configs.Site]int{configs.DecoderSelf: 8}
			s.LoadsIn = []string{"gqa", "whatever loads the source"}
		}},
		{Options{Goal: Groups(2), Target: Expanded}, func(s *Summary) {
			s.Target, s.Bytes, s.Parameters, s.KVBytesPerToken = Expanded, 4*full, full, 128
			s.LoadsIn = []string{"gqa", "whatever loads the source"}
		}},
	} {
		want := Summary{
			Source: "model", Family: "llama", Heads: 8, SourceGroups: 8, Groups: 2, Method: Mean, Grouping: Contiguous, Target: Native, DType: "keep", Layout: "separate",
			Sites: []configs.Site{configs.DecoderSelf}, KVHeadsBySite: map[configs.Site]int{configs.DecoderSelf: 2},
			LoadsIn: []string{"gqa", "transformers LlamaForCausalLM"}, TensorsPooled: 8, TensorsCopied: 21, Bytes: 4 * (full - 6*perGroup),
			SourceParameters: full, Parameters: full - 6*perGroup, SourceKVBytesPerToken: 2 * 2 * 16 * 2, KVBytesPerToken: 2 * 2 * 4 * 2,
		}
		c.change(&want)
		got, err := newPlan(t, dir, c.o).Summary()
		if err != nil {
			t.Fatal(err)
		}
		a, errA := weights.MarshalJSON(got)
		b, errB := weights.MarshalJSON(want)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("summary %s, want %s", a, b)
		}
	}
}

// TestLoadsIn: without a class of its own a grouped family loads in a neighbour's, or here only.
func TestLoadsIn(t *testing.T) {
	parallel := model{config: neoxConfig}.write(t)
	sequential := model{config: with(neoxConfig, "use_parallel_residual", "false")}.write(t)
	for _, c := range []struct {
		dir  string
		o    Options
		want []string
	}{
		{parallel, Options{Goal: Groups(2)}, []string{"gqa", "transformers PhiForCausalLM"}},
		{parallel, Options{Goal: Groups(2), Target: Own}, []string{"gqa"}},
		{parallel, Options{Goal: Groups(8)}, []string{"gqa", "whatever loads the source"}},
		{sequential, Options{Goal: Groups(2)}, []string{"gqa"}},
	} {
		p := newPlan(t, c.dir, c.o)
		if got := p.target.Layout().LoadsIn; !slices.Equal(got, c.want) {
			t.Errorf("%+v load in %q, want %q", c.o, got, c.want)
		}
	}
	src := golden.Open(t, sequential)
	_, why := target.Loader(src.Arch.WithKVHeads(2), src.Config)
	if len(why) != 1 || why[0].Error() != "PhiForCausalLM: residual is parallel there, sequential here" {
		t.Errorf("reasons %q", why)
	}
}
