package convert

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"gqa/convert/calibrate"
)

// sentence is token ids for the models of this package's tests.
func sentence(n int) *calibrate.Data {
	d := &calibrate.Data{Name: "ids", Tokens: n, Seed: 1}
	for i := range n {
		d.IDs = append(d.IDs, int32(i*i%6))
	}
	return d
}

// TestMergedReport converts by every method that merges and reads conversion.json: every head is in one group of each layer, figures
// are in their ranges, and what was asked is said.
func TestMergedReport(t *testing.T) {
	for _, config := range []string{llamaConfig, neoxConfig, gpt2Config} {
		dir := model{config: config}.write(t)
		for _, o := range []Options{
			{Method: Align},
			{Method: Calibrated, Grouping: Similar},
			{Method: Mean, Grouping: Similar},
			{Method: First, Grouping: Similar},
			{Method: Align, Calibration: sentence(64)},
			{Method: Calibrated, Calibration: sentence(64), Refine: 2},
			{Method: Align, Calibration: sentence(64), Refine: 3},
		} {
			o.Groups = 2
			out, p := filepath.Join(t.TempDir(), "out"), newPlan(t, dir, o)
			if o.Method == Align {
				p.refineBytes = 0 // as if the model were too large for all layers at once
			}
			if _, err := p.Run(context.Background(), out, false, ignore); err != nil {
				t.Fatal(err)
			}
			var s Summary
			if err := json.Unmarshal([]byte(readFile(t, filepath.Join(out, "conversion.json"))), &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Layers) != 2 || s.Refine != o.Refine || (s.Calibration == "ids") != (o.Calibration != nil) || (s.Together != nil) != p.fitsTogether() {
				t.Errorf("%s: summary %+v", o.Method, s)
			}
			for _, l := range s.Layers {
				checkLayer(t, o, l, o.Refine > 0 && !p.fitsTogether())
			}
		}
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

// TestMergeOfAllHeads: with as many groups as heads there is nothing to merge, whatever is asked.
func TestMergeOfAllHeads(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	src := open(t, dir)
	for _, o := range []Options{{Method: Align}, {Method: Calibrated, Grouping: Similar}, {Method: Calibrated, Calibration: sentence(64), Refine: 3}} {
		o.Groups = 8
		got := convertTo(t, dir, o)
		for _, name := range src.Names() {
			if raw(t, got, name) != raw(t, src, name) {
				t.Errorf("%s: tensor %s changed", o.Method, name)
			}
		}
	}
}

// TestMergeRefusesNaN: heads that hold no numbers cannot be compared.
func TestMergeRefusesNaN(t *testing.T) {
	const k = "model.layers.1.self_attn.k_proj.weight"
	data := make([]byte, 4*16*16)
	binary.LittleEndian.PutUint32(data[40:], math.Float32bits(float32(math.NaN())))
	dir := model{config: llamaConfig, data: map[string][]byte{k: data}}.write(t)
	for _, m := range []Method{Align, Calibrated} {
		_, err := newPlan(t, dir, Options{Groups: 2, Method: m}).Run(context.Background(), filepath.Join(t.TempDir(), "out"), false, ignore)
		wantError(t, err, "tensor "+k+" holds what is not a finite number")
	}
}
