package report

import (
	"errors"
	"fmt"
	"math"
)

// LayerError is what a conversion lost in one layer: the relative squared error of the attention's output or, where that was not
// measured, of what the shared heads contribute to it.
type LayerError struct {
	Name  string  `json:"name"`
	Error float64 `json:"error"`
}

// maxCurve is the largest number of steps of an up-training that a report holds.
const maxCurve = 200

// Curve returns the training curve of a run: for each of at most 200 stretches of equal length the number of tokens read at its end,
// and the mean loss in it.
func Curve(tokens []int64, losses []float64) (curve [][2]float64) {
	n := min(len(tokens), len(losses))
	stretches := min(n, maxCurve)
	for i := range stretches {
		from, to := i*n/stretches, (i+1)*n/stretches
		sum := 0.0
		for _, loss := range losses[from:to] {
			sum += loss
		}
		curve = append(curve, [2]float64{float64(tokens[to-1]), sum / float64(to-from)})
	}
	return curve
}

// checkDetails returns an error if a training curve or the errors of layers cannot have been measured.
func (p Point) checkDetails() error {
	for i, step := range p.Training {
		if !finite(step[0]) || !finite(step[1]) || step[0] < 0 || i > 0 && step[0] <= p.Training[i-1][0] {
			return fmt.Errorf("training[%d] is %v; want increasing numbers of tokens, with losses", i, step)
		}
	}
	for i, l := range p.Layers {
		if !finite(l.Error) || l.Error < 0 {
			return fmt.Errorf("layers[%d]: error is %v; want a finite number of at least 0", i, l.Error)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// Rules say which points may be recommended. They compare a point with the baseline.
type Rules struct {
	MaxLoss    float64 `json:"max_loss"`    // largest increase of the loss, in nats per token
	MaxKV      float64 `json:"max_kv"`      // largest KV cache per token, as a share of the baseline's
	MinSpeedup float64 `json:"min_speedup"` // least speed of decoding, as a multiple of the baseline's; 0: any, also not measured
}

// DefaultRules are those of a report that states none.
var DefaultRules = Rules{MaxLoss: 0.1, MaxKV: 1}

func (r Rules) check() error {
	if !(r.MaxLoss >= 0 && r.MaxKV > 0 && r.MinSpeedup >= 0) || !finite(r.MaxLoss) || !finite(r.MaxKV) || !finite(r.MinSpeedup) {
		return errors.New("rules: want finite numbers, max_kv above 0 and the others at least 0")
	}
	return nil
}
