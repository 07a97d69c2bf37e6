package train

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// Steps with recomputation are those without: to the bit, unless layers share an input (T5), whose gradients are added in
// another order. Each step of this T5 magnifies the difference several times.
func TestRecompute(t *testing.T) {
	for name, steps := range map[string]int{"llama": 6, "t5": 3} {
		c, windows := golden.Named(t, name), [][]int32(nil)
		for i, ids := range c.IDs {
			if c.Source != nil {
				ids = slices.Concat(c.Source[i], ids)
			}
			windows = append(windows, ids)
		}
		var want []outcome
		for _, how := range []string{"none", "", "attention", "layer"} {
			src, all := golden.Load(t, c.Dir)
			arch := src.Arch
			tr, err := newTrainer(cpu.New(), goldenRecipe(t, "recompute="+how), arch, model.FromMap(arch, all))
			if err != nil {
				t.Fatal(err)
			}
			if c.Source != nil {
				tr.objective = data.Labelled{Labels: len(c.IDs[0]), ShiftRight: true, Start: int32(arch.StartToken), Pad: int32(arch.PadToken)}
			}
			got := make([]outcome, steps)
			for i := range got {
				if got[i], err = tr.step(i+1, windows, nil); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = got
			}
			for i, w := range want {
				if got[i] != w && (name != "t5" || math.Abs(got[i].loss-w.loss) > goldenTolerance || math.Abs(got[i].gradNorm-w.gradNorm) > goldenTolerance*w.gradNorm) {
					t.Errorf("%s, recompute=%s, step %d: %+v, want %+v", name, how, i+1, got[i], w)
				}
			}
		}
	}
}

// A run goes on as it saved memory when it was interrupted.
func TestResumeEconomy(t *testing.T) {
	chosen := economy{Recompute: "layer", Windows: 1}
	recipe, whole := smallRun(t)
	r := begun(t, recipe, whole)
	r.trainer.setEconomy(chosen)
	if err := r.loop(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	r = begun(t, recipe, o)
	r.trainer.setEconomy(chosen)
	if err := r.loop(interruptedAfter(t, &o, 3), o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	r, err := solo(nil).reopen(t.Context(), o.Dir, &recipe, identity{}, nil)
	if err != nil || r.trainer.economy != chosen {
		t.Fatalf("resumed with %+v, want %+v; %v", r.trainer.economy, chosen, err)
	}
	o.Observe = nil
	if _, err := Resume(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "resumed with an economy", o.Dir, whole.Dir)
	if s, err := readState(o.Dir, 8); err != nil || s.Economy == nil || *s.Economy != chosen {
		t.Errorf("saved %+v, %v", s.Economy, err)
	}
}

// begunOn is a run on d just before its first step.
func begunOn(t *testing.T, d device.Device, recipe recipe.Recipe, o Options) *run {
	t.Helper()
	if err := resolve(&recipe); err != nil {
		t.Fatal(err)
	}
	from, tr, err := openOrigin(t.Context(), solo(d), recipe.Model, &recipe)
	if err != nil {
		t.Fatal(err)
	}
	r, err := assemble(t.Context(), &recipe, from, tr)
	if err == nil {
		r.dir, r.identity.Model = o.Dir, &from.sum
		err = createFolder(o, &recipe, r.identity)
	}
	if err == nil {
		err = tr.teacher.openCache()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// nearlySame compares the figures of a run with those of one that has enough memory.
func nearlySame(t *testing.T, what, dir, want string) {
	t.Helper()
	got := figures(t, dir)
	for i, w := range figures(t, want) {
		if i >= len(got) {
			t.Fatalf("%s: %d steps are logged", what, len(got))
		}
		g := got[i]
		if g.Skipped != "" && w.Skipped != "" {
			g.Loss, w.Loss, g.GradNorm, w.GradNorm = 0, 0, 1, 1 // may not be finite
		}
		if !(math.Abs(float64(g.Loss-w.Loss)) <= 1e-5) || !(math.Abs(float64(g.GradNorm-w.GradNorm)) <= 1e-5*float64(w.GradNorm)) || g.Step != w.Step || g.Best != w.Best || (g.Skipped == "") != (w.Skipped == "") ||
			!near(g.ValidLoss, w.ValidLoss) || !near(g.Original, w.Original) || !near(g.KL, w.KL) {
			t.Errorf("%s: %+v, want %+v", what, g, w)
		}
	}
}

func near(a, b *float64) bool {
	return a == nil && b == nil || a != nil && b != nil && math.Abs(*a-*b) <= 1e-5
}

// scarceRuns are runs of large batches for so small a model, with a teacher, its cache, or without.
func scarceRuns(t *testing.T, sets ...string) map[string]func() (recipe.Recipe, Options) {
	sets = append([]string{
		"data=" + writeIDs(t, golden.Windows(1, 40, 64, 128)), "valid=" + writeIDs(t, golden.Windows(2, 16, 64, 128)),
		"seq_len=64", "batch=8", "accumulate=1", "steps=3", "valid_every=1", "save_every=0", "optimizer.average=0.9",
	}, sets...)
	const teacher, mixed, cache = "distill.teacher=testdata/llama-rope3", "distill.loss=mixed", "distill.cache="
	made := func(more ...string) func() (recipe.Recipe, Options) {
		return func() (recipe.Recipe, Options) {
			sets := slices.Concat(sets, more)
			if slices.Contains(sets, cache) {
				sets = append(sets, cache+t.TempDir())
			}
			return smallRun(t, sets...)
		}
	}
	return map[string]func() (recipe.Recipe, Options){
		"alone": made(), "teacher": made(teacher, mixed), "cache": made(teacher, mixed, cache),
	}
}

// If a device's memory does not suffice, a run saves as much as it must, step by step, and has the figures of one with enough.
// If nothing suffices, it ends with one line, and what it has done is saved.
func TestLackOfMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it would take minutes under the race detector, and other tests start the same goroutines")
	}
	for name, made := range scarceRuns(t) {
		t.Run(name, func(t *testing.T) {
			recipe, whole := made()
			var chain []economy
			var says []string
			var most []int
			for e, ok := (economy{Windows: recipe.Batch}), true; ok; {
				chain = append(chain, e)
				d := devicetest.NewScarce()
				recipe, o := made()
				if len(chain) == 1 {
					o = whole
				}
				r := begunOn(t, d, recipe, o)
				r.trainer.setEconomy(e)
				if err := r.loop(t.Context(), o); err != nil || d.Misused != nil {
					t.Fatal(err, d.Misused)
				}
				most = append(most, d.Most)
				var what string
				e, what, ok = e.less(&recipe)
				says = append(says, what)
			}
			t.Logf("%v need %v bytes", chain, most)
			for i, limit := range most {
				checkScarce(t, made, limit, chain[:i+1], says, whole.Dir)
			}
			checkExhausted(t, made, most, whole.Dir)
		})
	}
}

// checkScarce runs with a limit that suffices for the last economy of a chain. One before it may do too if a teacher's memory is
// released in between.
func checkScarce(t *testing.T, made func() (recipe.Recipe, Options), limit int, chain []economy, says []string, whole string) {
	t.Helper()
	d := devicetest.NewScarce()
	recipe, o := made()
	r := begunOn(t, d, recipe, o)
	d.Limit = limit
	var err error
	lines := warnings(t, func() { err = r.loop(t.Context(), o) })
	if err != nil {
		t.Errorf("%d bytes: %v", limit, err)
		return
	}
	tried, last := slices.Index(chain, r.trainer.economy), len(chain)-1
	if tried < last && r.trainer.teacher == nil || len(lines) != max(1, tried) {
		t.Errorf("%d bytes: economy %+v, want %+v; the log holds %q", limit, r.trainer.economy, chain[last], lines)
	}
	for i, what := range says[:max(0, tried)] {
		if i < len(lines) && !(strings.Contains(lines[i], "out of memory on a scarce device") && strings.Contains(lines[i], what)) {
			t.Errorf("%d bytes: the log's line %d is %q, want one with %q", limit, i+1, lines[i], what)
		}
	}
	nearlySame(t, r.recipe.Name, o.Dir, whole)
}

// checkExhausted runs with less than the most economical run needs, from the beginning or after a step, and goes on elsewhere.
func checkExhausted(t *testing.T, made func() (recipe.Recipe, Options), most []int, whole string) {
	t.Helper()
	for after, ends := range []string{
		"less is needed with precision=bf16 or in a new run a smaller seq_len",
		"in a new run a smaller batch and a larger accumulate", // a step was computed ahead, and its optimizer lacks memory
	} {
		d := devicetest.NewScarce()
		recipe, o := made()
		r := begunOn(t, d, recipe, o)
		short := d.InUse + (most[len(most)-1]-d.InUse)/8
		if after == 0 {
			d.Limit = short
		}
		o.Observe = func(p Progress) {
			if p.Step == after {
				d.Limit = short
			}
		}
		err := r.loop(t.Context(), o)
		if stop := stopOf(t, err); stop.Run != o.Dir || stop.Saved != 0 || stop.LR != 0 || errors.Is(err, ErrDiverged) {
			t.Errorf("after step %d: %+v", after, stop)
		}
		text := err.Error()
		if !strings.Contains(text, "out of memory on a scarce device") || !strings.HasSuffix(text, ends) ||
			strings.Contains(text, "\n") || d.Misused != nil {
			t.Errorf("after step %d: error %q; %v", after, text, d.Misused)
		}
		o.Observe = nil
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		nearlySame(t, "resumed", o.Dir, whole)
	}
}

// Wherever memory is lacking once, in a step, a validation or a save, the run has the figures that it would have had, at once or
// when it is resumed.
func TestLackOfMemoryOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("it would take minutes under the race detector, and other tests start the same goroutines")
	}
	for name, made := range scarceRuns(t, "batch=2", "seq_len=12", "save_every=1",
		"data="+writeIDs(t, golden.Windows(1, 14, 12, 128)), "valid="+writeIDs(t, golden.Windows(2, 3, 12, 128))) {
		t.Run(name, func(t *testing.T) {
			recipe, whole := made()
			d := devicetest.NewScarce()
			r, all := begunOn(t, d, recipe, whole), d.Calls
			if err := r.loop(t.Context(), whole); err != nil {
				t.Fatal(err)
			}
			stops, calls := 0, d.Steps
			for n := all + 1; n <= d.Calls; n += 29 {
				calls = append(calls, n)
			}
			for _, n := range calls {
				e := devicetest.NewScarce()
				recipe, o := made()
				r := begunOn(t, e, recipe, o)
				e.FailAt = n
				err := r.loop(t.Context(), o)
				if err != nil {
					stops++
					if stop := stopOf(t, err); stop.Run != o.Dir || !strings.Contains(err.Error(), "out of memory") {
						t.Fatalf("without buffer %d: %+v", n, stop)
					}
					if _, err := Resume(t.Context(), o, nil); err != nil {
						t.Fatal(err)
					}
				}
				nearlySame(t, "", o.Dir, whole.Dir)
				if t.Failed() {
					t.Fatalf("without buffer %d of %d: %v", n, d.Calls, err)
				}
			}
			if stops < len(d.Steps) { // a step is not made twice
				t.Errorf("of %d runs %d had to be resumed, want at least %d", len(calls), stops, len(d.Steps))
			}
		})
	}
}

// What a recipe says about recomputation is kept, and the error names it.
func TestLackOfMemoryChosen(t *testing.T) {
	d := devicetest.NewScarce()
	recipe, o := smallRun(t, "recompute=none")
	r := begunOn(t, d, recipe, o)
	d.Limit = d.InUse
	var err error
	lines := warnings(t, func() { err = r.loop(t.Context(), o) })
	want := economy{Recompute: "none", Windows: 1}
	if r.trainer.economy != want || len(lines) != 1 || !strings.Contains(lines[0], "the batch of 2 windows is computed 1 at a time") {
		t.Errorf("economy %+v, want %+v; the log holds %q", r.trainer.economy, want, lines)
	}
	if err == nil || !strings.HasSuffix(err.Error(), "; less is needed with recompute=layer or precision=bf16 or in a new run a smaller seq_len") {
		t.Errorf("error %v", err)
	}
	if _, err := Resume(t.Context(), o, []string{"recompute=layer"}); err != nil {
		t.Error(err)
	}
}
