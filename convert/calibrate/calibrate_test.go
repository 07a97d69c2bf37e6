package calibrate

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/cpu/blas"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// cases returns the golden checkpoints whose shapes differ the most.
func cases(t *testing.T) []*golden.Case {
	t.Helper()
	var some []*golden.Case
	for _, c := range golden.Cases(t) {
		if slices.Contains([]string{"llama", "gpt2", "gpt_neox", "olmo2", "olmo3"}, c.Name) {
			some = append(some, c)
		}
	}
	return some
}

// ids returns enough tokens for several batches.
func ids(a *configs.Arch, n int) []int32 {
	r := rand.New(rand.NewPCG(1, 1))
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(r.IntN(a.Vocab))
	}
	return all
}

func walk(t *testing.T, src *weights.Source, tokens, groups int, follow bool) *Walk {
	t.Helper()
	return walkOn(t, cpu.New(), src, tokens, groups, follow)
}

// walkOn is walk on a device.
func walkOn(t *testing.T, d device.Device, src *weights.Source, tokens, groups int, follow bool) *Walk {
	t.Helper()
	batchTokens = 256
	t.Cleanup(func() { batchTokens = 2048 })
	w, err := New(t.Context(), d, src, src.Arch.WithKVHeads(groups, src.Arch.Sites()...), Data{IDs: ids(src.Arch, tokens), Tokens: tokens, Seed: 3}, t.TempDir(), follow)
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

// values returns stored rows, on the host.
func (w *Walk) values(k kind, batch int) ([]float32, error) {
	rows, err := w.states.get(k, batch)
	return slices.Clone(w.engine.Device().Host(rows)), err
}

// attentionOf returns a layer's unchanged weights, like a merge without groups.
func attentionOf(w *Walk, layer int) Weights {
	all := Weights{}
	for _, role := range []configs.Role{configs.Q, configs.K, configs.V, configs.O} {
		for _, bias := range []bool{false, true} {
			name := configs.ParamName(role, layer, bias)
			if values, ok := w.weights.values[name]; ok {
				all[name] = slices.Clone(values)
			}
		}
	}
	return all
}

// TestWalk takes a model that is converted to itself through its layers: it must see what a whole forward pass computes, give
// what is wanted of it, and stay with the original.
func TestWalk(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			w := walk(t, src, 700, src.Arch.KVHeads, true)
			for layer := range src.Arch.Layers {
				m, err := w.Layer(t.Context(), layer)
				if err != nil {
					t.Fatal(err)
				}
				checkMoment(t, w, m.Mean, m.Cov)
				same := attentionOf(w, layer)
				before, after, err := w.Readout(t.Context(), layer, same)
				if err != nil || before > 1e-9 || after > 1e-9 {
					t.Errorf("layer %d: its own output is off by %g, then %g (%v)", layer, before, after, err)
				}
				if err := w.Advance(t.Context(), layer, same); err != nil {
					t.Fatal(err)
				}
			}
			all, err := src.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			params, err := spago.NewParams(cpu.New(), src.Arch, model.FromMap(src.Arch, all))
			if err != nil {
				t.Fatal(err)
			}
			e, model := spago.New(cpu.New()), params.Model(src.Arch)
			x := model.Start(e, w.batches[1])
			for layer := range src.Arch.Layers {
				x = model.Layer(layer, e, x, w.batches[1])
			}
			for _, k := range []kind{teacherState, studentState} {
				got, err := w.values(k, 1)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(got, e.Values(x)); !(d < 1e-5) {
					t.Errorf("the %s's states are off by %g", k, d)
				}
			}
		})
	}
}

// roomless is a device with no memory for states, which therefore go to the host.
type roomless struct{ *devicetest.Scarce }

func (roomless) Room() uint64 { return 0 }

// A device with memory of its own gives what the processor gives, and is left with no memory in use.
func TestOtherMemory(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			scarce := devicetest.NewScarce()
			var results [3][]Weights
			for i, d := range []device.Device{cpu.New(), scarce, roomless{scarce}} {
				w := walkOn(t, d, src, 1600, src.Arch.KVHeads, true)
				for layer := range 2 {
					if _, err := w.Layer(t.Context(), layer); err != nil {
						t.Fatal(err)
					}
					changed := attentionOf(w, layer)
					for name := range changed {
						blas.Scale(changed[name], 1.1)
					}
					if _, _, err := w.Readout(t.Context(), layer, changed); err != nil {
						t.Fatal(err)
					}
					if _, err := w.Refine(t.Context(), layer, changed, 8, nil); err != nil {
						t.Fatal(err)
					}
					if err := w.Advance(t.Context(), layer, changed); err != nil {
						t.Fatal(err)
					}
					results[i] = append(results[i], changed)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(results[0], results[1]) || !reflect.DeepEqual(results[0], results[2]) {
				t.Error("another result than on the processor")
			}
			if scarce.InUse != 0 || scarce.Misused != nil {
				t.Errorf("%d bytes are left in use, %v", scarce.InUse, scarce.Misused)
			}
			var fits [2]Fit
			for i, d := range []device.Device{cpu.New(), scarce} {
				fitted := Weights{}
				for name, values := range results[0][0] {
					fitted[name] = slices.Clone(values)
				}
				var err error
				fits[i], _, err = Together(t.Context(), d, src, src.Arch, Data{IDs: ids(src.Arch, 3000), Tokens: 1600, Seed: 3}, Changes{Fitted: fitted}, 8, nil)
				if err != nil {
					t.Fatal(err)
				}
			}
			if fits[0] != fits[1] {
				t.Errorf("all layers together: %+v, want %+v", fits[1], fits[0])
			}
			if scarce.InUse != 0 || scarce.Misused != nil {
				t.Errorf("all layers together: %d bytes are left in use, %v", scarce.InUse, scarce.Misused)
			}
		})
	}
}

// checkMoment compares a moment with sums over all the inputs kept.
func checkMoment(t *testing.T, w *Walk, mean, cov []float32) {
	t.Helper()
	dim, n := len(mean), 0.0
	sums, products := make([]float64, dim), make([]float64, dim*dim)
	err := w.each(t.Context(), input, func(_ int, _ ops.Batch, rows device.Buffer) error {
		for row := range slices.Chunk(w.engine.Device().Host(rows), dim) {
			n++
			for i, a := range row {
				sums[i] += float64(a)
				for j, b := range row {
					products[i*dim+j] += float64(a) * float64(b)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range dim {
		if d := math.Abs(sums[i]/n - float64(mean[i])); !(d < 1e-4) {
			t.Fatalf("mean %d is off by %g", i, d)
		}
		for j := range dim {
			want := products[i*dim+j]/n - sums[i]/n*sums[j]/n
			if d := math.Abs(want - float64(cov[i*dim+j])); !(d < 1e-3) {
				t.Fatalf("covariance %d,%d is %g, want %g", i, j, cov[i*dim+j], want)
			}
		}
	}
}

// distance returns the relative distance.
func distance(a, b []float32) float64 {
	d, size := 0.0, 0.0
	for i := range a {
		d += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		size += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / size)
}

// TestReadout perturbs o: the fit must recover it.
func TestReadout(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			w := walk(t, src, 700, src.Arch.KVHeads, false)
			if _, err := w.Layer(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			spoiled := attentionOf(w, 0)
			r := rand.New(rand.NewPCG(4, 4))
			for _, bias := range []bool{false, true} {
				for i := range spoiled[configs.ParamName(configs.O, 0, bias)] {
					spoiled[configs.ParamName(configs.O, 0, bias)][i] += float32(r.NormFloat64()) / 10
				}
			}
			before, after, err := w.Readout(t.Context(), 0, spoiled)
			if err != nil || before < 1e-3 || after > before/1000 {
				t.Errorf("the error was %g and is %g (%v)", before, after, err)
			}
			again, _, err := w.Readout(t.Context(), 0, spoiled)
			if err != nil || math.Abs(again-after) > 1e-5+after/100 {
				t.Errorf("the error is %g, the fit said %g (%v)", again, after, err)
			}
		})
	}
}

// TestRefine halves the KV heads by keeping the first of each pair. The fit must reduce the error on held-out text, report it
// correctly, and be reproducible.
func TestRefine(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			var results []Weights
			for range 2 {
				w := walk(t, src, 1600, src.Arch.KVHeads/2, true)
				if _, err := w.Layer(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				halved := attentionOf(w, 0)
				for _, role := range []configs.Role{configs.K, configs.V} {
					for _, bias := range []bool{false, true} {
						name := configs.ParamName(role, 0, bias)
						if values := halved[name]; values != nil {
							halved[name] = everySecond(values, src.Arch.KVHeads)
						}
					}
				}
				if name := configs.ParamName(configs.KNorm, 0, false); src.Arch.OwnNorms(configs.KNorm) {
					halved[name] = everySecond(w.weights.values[name], src.Arch.KVHeads)
				}
				fit, err := w.Refine(t.Context(), 0, halved, 30, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !(fit.After < 0.65*fit.Before) || fit.Before < 1e-3 || fit.Steps < 1 || fit.Rate <= 0 {
					t.Errorf("fit %+v", fit)
				}
				results = append(results, halved)
			}
			for name, values := range results[0] {
				if !slices.Equal(values, results[1][name]) {
					t.Errorf("%s differs from run to run", name)
				}
			}
		})
	}
}

// TestTogether perturbs o of every layer: the fit must bring predictions closer to the original's, and be reproducible.
func TestTogether(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			d := Data{IDs: ids(src.Arch, 20*2048), Seed: 3}
			var results []Weights
			for range 2 {
				all, told := spoiled(t, src), 0
				fit, layers, err := Together(t.Context(), cpu.New(), src, src.Arch, d, Changes{Fitted: all}, 6, func() { told++ })
				if err != nil {
					t.Fatal(err)
				}
				if !(fit.After < 0.85*fit.Before) || fit.Before < 1e-4 || told < fit.Steps {
					t.Errorf("fit %+v, %d steps told", fit, told)
				}
				if len(layers) != src.Arch.Layers {
					t.Fatalf("%d layers are told of", len(layers))
				}
				for i, l := range layers {
					if !(l.After < l.Before && l.Before < 10) {
						t.Errorf("layer %d: %+v", i, l)
					}
				}
				results = append(results, all)
			}
			for name, values := range results[0] {
				if !slices.Equal(values, results[1][name]) {
					t.Errorf("%s differs from run to run", name)
				}
			}
		})
	}
}

// spoiled returns the weights of every layer's o with noise.
func spoiled(t *testing.T, src *weights.Source) Weights {
	t.Helper()
	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	all, r := Weights{}, rand.New(rand.NewPCG(6, 6))
	for _, p := range params {
		if p.Role != configs.O || p.Bias {
			continue
		}
		if all[p.Name], err = src.Read(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for i := range all[p.Name] {
			all[p.Name][i] += float32(r.NormFloat64()) / 20
		}
	}
	return all
}

// everySecond keeps heads 0, 2, 4 ….
func everySecond(values []float32, heads int) []float32 {
	var kept []float32
	size := len(values) / heads
	for h := 0; h < heads; h += 2 {
		kept = append(kept, values[h*size:(h+1)*size]...)
	}
	return kept
}

// TestTooShort checks the errors for text shorter than a window, and for a cancelled walk.
func TestTooShort(t *testing.T) {
	src := golden.Open(t, cases(t)[0].Dir)
	if _, err := New(t.Context(), cpu.New(), src, src.Arch, Data{IDs: ids(src.Arch, 3), Tokens: 1000}, t.TempDir(), false); err == nil {
		t.Error("three tokens make a window")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, cpu.New(), src, src.Arch, Data{IDs: ids(src.Arch, 500), Tokens: 500}, t.TempDir(), false); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped walk ends with %v", err)
	}
}
