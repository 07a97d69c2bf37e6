package convert

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/internal/data"
	"gqa/internal/golden"
)

// sentence is token ids for the models of this package's tests.
func sentence(n int) *calibrate.Data {
	d := &calibrate.Data{Name: "ids", Tokens: n, Seed: 1}
	for i := range n {
		d.IDs = append(d.IDs, int32(i*i%6))
	}
	return d
}

// reported are configs whose heads have different invariances, with their numbers of attention modules.
var reported = map[string]int{
	llamaConfig: 2, neoxConfig: 2, gpt2Config: 2,
	`{"model_type": "bloom", "vocab_size": 6, "hidden_size": 16, "n_layer": 2, "n_head": 8, "seq_length": 32}`: 2,
	`{"model_type": "qwen3", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 8,
		"num_key_value_heads": 8, "head_dim": 2, "max_position_embeddings": 32}`: 2,
	`{"model_type": "bert", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 8,
		"max_position_embeddings": 32, "type_vocab_size": 2}`: 2,
	`{"model_type": "t5", "vocab_size": 6, "d_model": 16, "d_kv": 2, "d_ff": 5, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 8}`:   7,
	`{"model_type": "umt5", "vocab_size": 6, "d_model": 16, "d_kv": 2, "d_ff": 5, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 8}`: 5,
}

// TestMergedReport converts by every method that merges and reads conversion.json: every head is in one group of each
// layer, figures are in range, and the options are recorded.
func TestMergedReport(t *testing.T) {
	for config, modules := range reported {
		dir := model{config: config}.write(t)
		src := golden.Open(t, dir)
		text := sentence(64)
		if src.Arch.EncoderLayers > 0 {
			text.Objective = data.Spans{Sentinels: []int32{4, 5}, End: 1, Start: 0}
			text.Window = 16
		}
		for _, o := range []Options{
			{Method: Align},
			{Method: Calibrated, Grouping: Similar},
			{Method: Mean, Grouping: Similar},
			{Method: First, Grouping: Similar},
			{Method: Align, Calibration: text},
			{Method: Calibrated, Grouping: Similar, Calibration: text, Refine: 2},
			{Method: Align, Calibration: text, Refine: 3},
		} {
			o.Goal, o.Sites = Groups(2), AllSites
			if src.Arch.Position == configs.PositionALiBi {
				o.Grouping = Contiguous
				if !o.Merges() {
					continue
				}
			}
			if o.Method == Align {
				o.RefineBy = ByLayer
			}
			out, p := filepath.Join(t.TempDir(), "out"), newPlan(t, dir, o)
			steps := 0
			if _, err := p.Run(context.Background(), out, RunOptions{OnMerge: func(n int64) { steps += int(n) }}); err != nil {
				t.Fatalf("%s, %s: %v", src.Arch.Family.Name, o.Method, err)
			}
			var s Summary
			if err := json.Unmarshal([]byte(readFile(t, filepath.Join(out, "conversion.json"))), &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Layers) != modules || s.Refine != o.Refine || (s.Calibration == "ids") != (o.Calibration != nil) || (s.Together != nil) != p.fitsTogether() {
				t.Errorf("%s, %s: summary %+v", s.Family, o.Method, s)
			}
			if steps < modules || steps > p.MergeWork() {
				t.Errorf("%s, %s: %d steps reported of %d", s.Family, o.Method, steps, p.MergeWork())
			}
			for _, l := range s.Layers {
				checkLayer(t, o, l, o.Refine > 0 && !p.fitsTogether())
				if want := p.fitsTogether() && !(l.Site == configs.EncoderSelf && len(src.Arch.Sites()) > 1); (l.States != nil) != want {
					t.Errorf("%s, %s: layer %d of %s: states %+v", s.Family, o.Method, l.Layer, l.Site, l.States)
				}
			}
			if s.Family == "t5" {
				checkOrder(t, s.Layers)
			}
		}
	}
}

// checkOrder checks that the groups of a stack whose layers share their position biases are the same in all layers.
func checkOrder(t *testing.T, layers []Layer) {
	t.Helper()
	first := map[configs.Site]Layer{}
	for _, l := range layers {
		f, ok := first[l.Site]
		if !ok {
			first[l.Site] = l
		}
		for i := range f.Groups {
			if l.Site != configs.Cross && !slices.Equal(l.Groups[i].Members, f.Groups[i].Members) {
				t.Errorf("%s: layer %d groups %v, layer %d %v", l.Site, l.Layer, l.Groups[i].Members, f.Layer, f.Groups[i].Members)
			}
		}
	}
	if len(first) != 3 {
		t.Errorf("%d sites are reported", len(first))
	}
}

func checkLayer(t *testing.T, o Options, l Layer, alone bool) {
	t.Helper()
	var all []int
	for _, g := range l.Groups {
		all = append(all, g.Members...)
		for _, f := range []MergedFit{g.K, g.V} {
			if !(f.Cosine > 0 && f.Cosine <= 1.0001 && f.Energy > 0 && f.Energy <= 1.0001 && f.Scale > 0 && f.Error >= 0) {
				t.Errorf("%s: layer %d, heads %v: %+v", o.Method, l.Layer, g.Members, f)
			}
		}
	}
	slices.Sort(all)
	if !slices.Equal(all, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("%s: layer %d groups heads %v", o.Method, l.Layer, all)
	}
	if fitted := o.Calibration != nil && (o.Method == Calibrated || o.Refine > 0); (l.Readout != nil) != fitted || fitted && l.Readout.After > l.Readout.Before {
		t.Errorf("%s: layer %d: readout %+v", o.Method, l.Layer, l.Readout)
	}
	if (l.Fit != nil) != alone || l.Fit != nil && l.Fit.After > l.Fit.Before {
		t.Errorf("%s: layer %d: fit %+v", o.Method, l.Layer, l.Fit)
	}
}

// TestMergeOfAllHeads: with as many groups as heads there is nothing to merge, whatever the options.
func TestMergeOfAllHeads(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	src := golden.Open(t, dir)
	for _, o := range []Options{{Method: Align}, {Method: Calibrated, Grouping: Similar}, {Method: Calibrated, Calibration: sentence(64), Refine: 3}} {
		o.Goal = Groups(8)
		got := convertTo(t, dir, o)
		for _, name := range src.Names() {
			if raw(t, got, name) != raw(t, src, name) {
				t.Errorf("%s: tensor %s changed", o.Method, name)
			}
		}
	}
}
