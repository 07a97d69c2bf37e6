package calibrate

import (
	"maps"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/cpu/blas"
	"gqa/internal/data"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// t5 returns the golden case with an encoder and a decoder.
func t5(t *testing.T) *weights.Source {
	t.Helper()
	return golden.Open(t, golden.Named(t, "t5").Dir)
}

// spans replaces some of the text by sentinels.
func spans(a *configs.Arch) data.Objective {
	return data.Spans{Sentinels: []int32{7, 8, 9, 10, 11}, End: 1, Start: int32(a.StartToken), Pad: int32(a.PadToken), Seed: 5}
}

func walkSpans(t *testing.T, src *weights.Source, groups int, follow bool, sites ...configs.Site) *Walk {
	t.Helper()
	batchTokens = 256
	t.Cleanup(func() { batchTokens = 2048 })
	d := Data{IDs: ids(src.Arch, 1400), Tokens: 1400, Seed: 3, Objective: spans(src.Arch), Window: 50}
	w, err := New(t.Context(), cpu.New(), src, src.Arch.WithKVHeads(groups, sites...), d, t.TempDir(), follow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// same returns the unchanged weights of the current attention, like a merge without groups.
func same(w *Walk, layer int) Weights {
	all := Weights{}
	for _, role := range []configs.Role{w.at.q, w.at.k, w.at.v, w.at.o} {
		name := configs.ParamName(role, layer, false)
		all[name] = slices.Clone(w.weights.values[name])
	}
	return all
}

// checkSame checks that the output of the current attention equals its target, and returns its weights.
func checkSame(t *testing.T, w *Walk, layer int) Weights {
	t.Helper()
	all := same(w, layer)
	before, after, err := w.Readout(t.Context(), layer, all)
	if err != nil || before > 1e-9 || after > 1e-9 {
		t.Errorf("layer %d, cross %v: its own output is off by %g, then %g (%v)", layer, w.at.cross, before, after, err)
	}
	return all
}

// TestWalkEncoder takes T5, converted to itself, through encoder and decoder: what is wanted of each attention is what it
// gives, and the states are those of a whole forward pass. If the encoder is not converted, nothing calls for its layers.
func TestWalkEncoder(t *testing.T) {
	src := t5(t)
	for _, encoder := range []bool{true, false} {
		w := walkSpans(t, src, src.Arch.KVHeads, true)
		if encoder {
			w.Encoder().follow = true // as if it had fewer heads
			if err := w.Encoder().embed(t.Context()); err != nil {
				t.Fatal(err)
			}
			walkSelf(t, w.Encoder())
		}
		walkSelf(t, w)
		all, err := src.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		params, err := spago.NewParams(cpu.New(), src.Arch, model.FromMap(src.Arch, all))
		if err != nil {
			t.Fatal(err)
		}
		e, model := spago.New(cpu.New()), params.Model(src.Arch)
		want := slices.Clone(e.Values(model.Hidden(e, w.batches[1])))
		for _, k := range []kind{teacherState, studentState} {
			got, err := w.values(k, 1)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(w.engine.Values(w.teacher.End(w.engine, w.rows(w.engine.Device().Put(got), w.batches[1]))), want); !(d < 1e-5) {
				t.Errorf("the %s's output is off by %g", k, d)
			}
		}
	}
}

// walkSelf runs a stack through its layers with unchanged weights.
func walkSelf(t *testing.T, w *Walk) {
	t.Helper()
	for layer := range w.arch.Layers {
		m, err := w.Layer(t.Context(), layer)
		if err != nil {
			t.Fatal(err)
		}
		checkMoment(t, w, m.Mean, m.Cov)
		all := checkSame(t, w, layer)
		if w.encoder != nil {
			query, memory, err := w.Cross(t.Context(), layer, all)
			if err != nil {
				t.Fatal(err)
			}
			checkMoment(t, w, query.Mean, query.Cov)
			if len(memory.Mean) != w.arch.Dim || blas.SumSquares(memory.Cov) == 0 {
				t.Errorf("layer %d: the encoder's output has no moment", layer)
			}
			maps.Copy(all, checkSame(t, w, layer))
		}
		if err := w.Advance(t.Context(), layer, all); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefineCross halves the KV heads of cross-attention by keeping the first of each pair. The fit must reduce the error.
func TestRefineCross(t *testing.T) {
	src := t5(t)
	w := walkSpans(t, src, src.Arch.KVHeads/2, true, configs.Cross)
	query, memory, err := w.Cross(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if distance(query.Cov, memory.Cov) < 0.1 {
		t.Error("queries read what keys do")
	}
	halved := same(w, 0)
	for _, role := range []configs.Role{configs.CrossK, configs.CrossV} {
		name := configs.ParamName(role, 0, false)
		halved[name] = everySecond(halved[name], src.Arch.KVHeads)
	}
	was := maps.Clone(halved)
	for name, values := range halved {
		was[name] = slices.Clone(values)
	}
	fit, err := w.Refine(t.Context(), 0, halved, 30, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !(fit.After < 0.85*fit.Before) || fit.Before < 1e-3 || fit.Steps < 1 {
		t.Errorf("fit %+v", fit)
	}
	for name, values := range halved {
		if slices.Equal(values, was[name]) {
			t.Errorf("%s is as it was", name)
		}
	}
}

// TestPadding: padding is not part of a moment.
func TestPadding(t *testing.T) {
	b := ops.NewBatch([]int32{1, 2, 3}, []int32{4, 5, 6})
	b.Lens = []int{3, 1}
	d := devicetest.NewScarce()
	rows := d.Put([]float32{1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6})
	before := d.InUse
	real, done := unpadded(d, rows, b)
	if got := d.Host(real); !slices.Equal(got, []float32{1, 1, 2, 2, 3, 3, 4, 4}) {
		t.Error(got)
	}
	if done(); d.InUse != before {
		t.Errorf("%d bytes are in use, want %d", d.InUse, before)
	}
}
