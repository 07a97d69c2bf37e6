package calibrate

import (
	"slices"
	"testing"

	"gqa/internal/device/cpu"
	"gqa/internal/engine/spago"
)

// TestDescent pulls weights from where they are to a target, with another on the held-out batch: the descent must take the first
// rate that gains anything there, end when gains are long ago, go back to the best, and leave alone what cannot be bettered.
func TestDescent(t *testing.T) {
	start := []float32{1, -1, 2, 0.5}
	away := func(by float32) []float32 {
		target := slices.Clone(start)
		for i := range target {
			target[i] += by
		}
		return target
	}
	const steps = 200
	for name, c := range map[string]struct {
		train, held float32 // how far away the targets are
		rates       []float64
		rate        float64
		made        [2]int // fewest and most steps, of all attempts
	}{
		"all the way":      {1, 1, []float64{0.05}, 0.05, [2]int{steps, steps}},
		"a rate too large": {0.01, 0.01, []float64{50, 0.002}, 0.002, [2]int{steps/checks*patience + 1, 2 * steps}},
		"no further":       {1, 0.2, []float64{0.004}, 0.004, [2]int{1, steps - 1}},
		"nothing to gain":  {1, -1, []float64{0.05, 0.01}, 0.01, [2]int{1, 2 * steps / checks * patience}},
	} {
		t.Run(name, func(t *testing.T) {
			values, made := slices.Clone(start), 0
			d := newDescent(spago.New(cpu.New()), 2, 1, 1, c.rates...)
			w := d.fit(values, 1)
			d.loss = func(i int) (spago.Tensor, float64, error) {
				by := c.train
				if slices.Contains(d.held, i) {
					by = c.held
				}
				loss, number := d.engine.SquaredError(w, away(by), 1)
				return loss, number(), nil
			}
			d.onStep = func() { made++ }
			fit, err := d.descend(t.Context(), steps)
			if err != nil {
				t.Fatal(err)
			}
			if fit.Rate != c.rate || made < c.made[0] || made > c.made[1] {
				t.Errorf("%d steps made, fit %+v; want %v at rate %v", made, fit, c.made, c.rate)
			}
			now, err := d.check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if now != fit.After {
				t.Errorf("the error is %v now, and %v is told", now, fit.After)
			}
			if gains := c.held > 0; (fit.After < fit.Before) != gains || (fit.Steps > 0) != gains || slices.Equal(values, start) == gains {
				t.Errorf("fit %+v, weights %v from %v", fit, values, start)
			}
		})
	}
}
