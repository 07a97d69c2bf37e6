package convert

import (
	"errors"
	"reflect"
	"testing"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/internal/golden"
)

func TestGoal(t *testing.T) {
	a := golden.Open(t, model{config: llamaConfig}.write(t)).Arch
	layers := []int{8, 2}
	for _, c := range []struct {
		goal     Goal
		groups   int
		perLayer []int
		text     string
	}{
		{Groups(4), 4, nil, "4"},
		{GroupsPerLayer(layers...), 8, []int{8, 2}, "8,2"},
		{Goal{}, 0, nil, "0"},
	} {
		if c.goal.Groups() != c.groups || !reflect.DeepEqual(c.goal.PerLayer(), c.perLayer) || c.goal.String() != c.text {
			t.Errorf("%v: %d groups, per layer %v", c.goal, c.goal.Groups(), c.goal.PerLayer())
		}
		if c.groups == 0 {
			continue
		}
		if got := c.goal.arch(a, a.Sites()); got.KVHeads != c.groups || !reflect.DeepEqual(got.LayerKVHeads, c.perLayer) {
			t.Errorf("%v: architecture with %d KV heads, per layer %v", c.goal, got.KVHeads, got.LayerKVHeads)
		}
	}
	goal := GroupsPerLayer(layers...)
	if layers[0] = 1; goal.Groups() != 8 {
		t.Error("a goal shares memory with the caller")
	}
}

// TestOptionErrors: errors name the options that conflict, and those that would resolve the conflict.
func TestOptionErrors(t *testing.T) {
	plain := model{config: llamaConfig}.write(t)
	alibi := model{config: with(with(falconConfig, "multi_query", "false"), "alibi", "true")}.write(t)
	layered := model{config: with(llamaConfig, configs.LayersKey, "[8, 2]")}.write(t)
	for _, c := range []struct {
		dir            string
		o              Options
		leaveOut, give []Setting
	}{
		{alibi, Options{Goal: Groups(2), Method: Mean, Grouping: Similar}, []Setting{{OptionGrouping, "similar"}}, nil},
		{
			plain,
			Options{Goal: GroupsPerLayer(8, 2), Method: Align, Grouping: Similar},
			[]Setting{{OptionMethod, "align"}, {OptionGrouping, "similar"}},
			nil,
		},
		{layered, Options{Goal: Groups(2), Method: Calibrated}, []Setting{{OptionMethod, "calibrated"}}, nil},
		{layered, Options{Goal: Groups(4), Method: Mean}, nil, []Setting{{OptionGroupsPerLayer, "8,2"}}},
		{
			plain,
			Options{Goal: Groups(2), Method: Mean, Calibration: &calibrate.Data{}},
			[]Setting{{Option: OptionCalibration}},
			[]Setting{{OptionMethod, "align or calibrated"}, {OptionGrouping, "similar"}, {Option: OptionRefine}},
		},
		{plain, Options{Goal: Groups(2), Method: Mean, Refine: 2}, nil, []Setting{{OptionCalibration, "FILE"}}},
	} {
		_, err := NewPlan(golden.Open(t, c.dir), c.o)
		var option OptionError
		if !errors.As(err, &option) || !reflect.DeepEqual(option.LeaveOut, c.leaveOut) || !reflect.DeepEqual(option.Give, c.give) {
			t.Errorf("%+v: error %v: leave out %v, give %v", c.o, err, option.LeaveOut, option.Give)
		}
	}
}

func TestOverlapError(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	_, err := newPlan(t, dir, Options{Goal: Groups(2)}).Run(t.Context(), dir, RunOptions{Force: true})
	var overlap OverlapError
	if !errors.As(err, &overlap) || overlap.Output != dir {
		t.Errorf("error %v", err)
	}
}

func TestNotes(t *testing.T) {
	for want, n := range map[string]Note{
		"a":                               {Text: "a"},
		"b":                               {Err: errors.New("b")},
		"a: b":                            {Text: "a", Err: errors.New("b")},
		"a; write target gguf for others": {Text: "a", Targets: []Target{GGUF}},
		"a; write target gguf or expanded for others": {Text: "a", Targets: []Target{GGUF, Expanded}},
	} {
		if n.String() != want {
			t.Errorf("%q, want %q", n, want)
		}
	}
	plain := model{config: `{"model_type": "llama", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2,
		"num_attention_heads": 8, "max_position_embeddings": 32}`}.write(t)
	for dir, want := range map[string][]Target{plain: {GGUF, Expanded}, model{config: gpt2Config}.write(t): {Expanded}} {
		notes := newPlan(t, dir, Options{Goal: GroupsPerLayer(8, 2)}).Notes()
		if len(notes) != 1 || !reflect.DeepEqual(notes[0].Targets, want) {
			t.Errorf("notes %v, want targets %v", notes, want)
		}
	}
}

// The sizes of latent attention follow from the bytes of a cache: a quarter is rotary, or all rotary dims if these are fewer.
func TestLatentSizes(t *testing.T) {
	a := *golden.Open(t, model{config: with(llamaConfig, "head_dim", "8")}.write(t)).Arch
	groups := func(n int) int64 { return a.WithKVHeads(n).KVBytesPerToken(2) }
	for _, c := range []struct {
		rotary   int // dims of a head
		goal     LatentGoal
		rank, of int
	}{
		{8, LatentGoal{Bytes: groups(4)}, 48, 16},
		{8, LatentGoal{Bytes: groups(1)}, 12, 4},
		{8, LatentGoal{Bytes: groups(1) + 8}, 14, 4}, // two numbers more in each of two layers
		{8, LatentGoal{Bytes: groups(4), RopeDim: 4}, 60, 4},
		{8, LatentGoal{Rank: 5, RopeDim: 2}, 5, 2},
		{2, LatentGoal{Bytes: 2 * 2 * 96}, 80, 16},
	} {
		a.Rope.Dim = c.rotary
		if got := c.goal.sized(&a); got.Rank != c.rank || got.RopeDim != c.of {
			t.Errorf("%+v of %d rotary dims: %d + %d, want %d + %d", c.goal, c.rotary, got.Rank, got.RopeDim, c.rank, c.of)
		}
	}
}
