package train

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/internal/device"
	"gqa/internal/engine"
	"gqa/internal/ops"
)

// troubled is a trainer whose gradients, in some calls of Accumulate, are multiplied by a factor, and whose losses are then this much.
type troubled struct {
	engine.Trainer
	at     []int // calls, from 1
	factor float32
	loss   float64
	calls  int
	steps  []int // that were asked for
}

func (p *troubled) Accumulate(b ops.Batch, targets []int32, lesson *engine.Lesson, share float32) (engine.Loss, error) {
	if p.calls++; !slices.Contains(p.at, p.calls) {
		return p.Trainer.Accumulate(b, targets, lesson, share)
	}
	loss, err := p.Trainer.Accumulate(b, targets, lesson, share*p.factor)
	if p.loss != 0 {
		loss = constant(p.loss)
	}
	return loss, err
}

func (p *troubled) Step(n int, lr float64) device.Number {
	p.steps = append(p.steps, n)
	return p.Trainer.Step(n, lr)
}

type constant float64

func (c constant) Read() (value, crossEntropy, divergence float64) { return float64(c), float64(c), 0 }

// Steps whose numbers are not finite, and spikes, change nothing, and are counted. The optimizer counts the others.
func TestSkip(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		trouble troubled
		sets    []string
		skipped []int
		why     string
	}{
		"gradient":          {troubled{at: []int{5, 11}, factor: nan, loss: 1}, []string{"accumulate=1"}, []int{5, 11}, "the gradient norm is NaN"},
		"loss":              {troubled{at: []int{5}, factor: nan, loss: math.NaN()}, []string{"accumulate=1"}, []int{5}, "the loss is NaN"},
		"spike of the norm": {troubled{at: []int{25}, factor: 100, loss: 5}, []string{"accumulate=1", "skip.spike=6"}, []int{25}, "the gradient norm is "},
		"spike of the loss": {troubled{at: []int{26}, factor: 1, loss: 50}, []string{"accumulate=1", "skip.spike=6"}, []int{26}, "the loss is 50, "},
		"no spikes":         {troubled{at: []int{26}, factor: 1, loss: 50}, []string{"accumulate=1"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			recipe, o := smallRun(t, append(c.sets, "steps=30", "optimizer.lr=1e-4", "schedule.kind=constant", "save_every=0", "valid=", "optimizer.clip=0")...)
			r := begun(t, recipe, o)
			trouble := c.trouble
			trouble.Trainer = r.trainer.Trainer
			r.trainer.Trainer = &trouble
			var before map[string][]float32
			o.Observe = func(p Progress) {
				after := results(t, r)
				for name, w := range after {
					if same := slices.Equal(w, before[name]); before != nil && p.Skipped != "" && !same || p.Skipped == "" && same {
						t.Errorf("step %d: %s unchanged: %v", p.Step, name, same)
					}
				}
				before = after
			}
			if err := r.loop(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			var skipped []int
			for _, m := range figures(t, o.Dir) {
				if m.Skipped == "" {
					continue
				}
				if skipped = append(skipped, m.Step); !strings.HasPrefix(m.Skipped, c.why) {
					t.Errorf("step %d: %s", m.Step, m.Skipped)
				}
			}
			if !slices.Equal(skipped, c.skipped) {
				t.Errorf("steps %v are skipped, want %v", skipped, c.skipped)
			}
			if last := trouble.steps[len(trouble.steps)-1]; last != 30-len(c.skipped) {
				t.Errorf("the last step is the optimizer's %d, want %d", last, 30-len(c.skipped))
			}
			if s, err := ReadStatus(o.Dir); err != nil || s.Skipped != len(c.skipped) || s.Loss == nil || math.IsNaN(*s.Loss) {
				t.Errorf("status %+v, %v", s, err)
			}
		})
	}
}

// With more steps than the limit that would be skipped, the run stops, and it remembers the skipped ones when it is resumed.
func TestSkipLimit(t *testing.T) {
	recipe, o := smallRun(t, "accumulate=1", "skip.limit=2", "save_every=1", "valid=")
	run := func(r *run, at ...int) error {
		r.trainer.Trainer = &troubled{Trainer: r.trainer.Trainer, at: at, factor: float32(math.NaN())}
		return r.loop(t.Context(), o)
	}
	err := run(begun(t, recipe, o), 2, 4, 6)
	if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "in step 6: the loss is NaN") || stopOf(t, err).Saved != 5 {
		t.Fatalf("error %v", err)
	}
	began, damage := readIdentity(o.Dir)
	r, err := solo(nil).reopen(t.Context(), o.Dir, &recipe, began, damage)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(r, 2); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "in step 7: ") {
		t.Errorf("resumed: error %v", err)
	}
	if _, err := Resume(t.Context(), o, nil); err != nil {
		t.Error(err)
	}
	if s, err := ReadStatus(o.Dir); err != nil || s.Skipped != 2 || s.State != Finished {
		t.Errorf("status %+v, %v", s, err)
	}
}

// A run with spikes that is interrupted and resumed skips the same steps.
func TestSkipResume(t *testing.T) {
	recipe, whole := smallRun(t, "accumulate=1", "steps=40", "optimizer.lr=1e-6", "skip.spike=1", "skip.limit=100", "valid=", "save_every=0")
	mustRun(t, recipe, whole)
	if s, err := ReadStatus(whole.Dir); err != nil || s.Skipped == 0 {
		t.Fatalf("no step is skipped: %+v, %v", s, err)
	}
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &o, 31), recipe, o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	o.Observe = nil
	if _, err := Resume(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "resumed", o.Dir, whole.Dir)
}
