package main

import (
	"errors"
	"fmt"
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/cli"
	"gqa/internal/llamacpp"
)

func TestAdvise(t *testing.T) {
	base := errors.New("x")
	groups := fmt.Errorf("%w is 3", convert.ErrGroups)
	for _, c := range []struct {
		err   error
		want  string
		usage bool
	}{
		{base, "x", false},
		{groups, "--groups is 3", true},
		{convert.OptionError{Err: base}, "x", true},
		{
			convert.OptionError{Err: groups, Give: []convert.Setting{{Option: convert.OptionGroupsPerLayer, Value: "4,2"}}},
			"--groups is 3; --groups-per-layer 4,2 leaves them as they are", true,
		},
		{
			convert.OptionError{
				Err: base, LeaveOut: []convert.Setting{{Option: convert.OptionMethod, Value: "align"}, {Option: convert.OptionRefine}},
				Give: []convert.Setting{{Option: convert.OptionCalibration, Value: "FILE"}},
			},
			"x; leave out --method align and --refine, or give --calibration FILE", true,
		},
		{convert.OverlapError{Output: "m"}, "the output m is the input's folder, or holds it; choose another with -o", false},
		{fmt.Errorf("m: %w", convert.ErrNoConfig), "m: there is no config.json beside the weights; put it there, or give --family and --heads", false},
	} {
		err := advise(c.err)
		if err.Error() != c.want || cli.IsUsage(err) != c.usage {
			t.Errorf("%q (usage %v), want %q", err, cli.IsUsage(err), c.want)
		}
	}
	if advise(nil) != nil {
		t.Error("advice on no error")
	}
}

func TestNoteText(t *testing.T) {
	ungrouped := llamacpp.UngroupedError{Arch: "gptneox", Site: configs.DecoderSelf, Heads: 4, KVHeads: 2}
	for want, n := range map[string]convert.Note{
		"a": {Text: "a"},
		"a; write --target gguf or expanded for others": {Text: "a", Targets: []convert.Target{convert.GGUF, convert.Expanded}},
		"with 4 KV heads only: " + ungrouped.Error() + "; write --target expanded, and then --groups 4 --target gguf of that": {
			Text: "with 4 KV heads only", Err: ungrouped,
		},
	} {
		if got := noteText(n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
