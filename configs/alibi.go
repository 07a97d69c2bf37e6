package configs

import (
	"fmt"
	"math"
)

// ALiBi is attention with linear biases (Press et al. 2021, arXiv 2108.12409): a head's score falls with the distance of
// the key by the head's slope, and there are no position embeddings.
type ALiBi struct {
	Max float64 // the last of a power of two of heads has the slope 2^-Max
	// Coarse, if not 0, says that biases are computed in bfloat16 (the slope, and its product with the key's position) and
	// added so many times before scores are scaled; else they are added to the scaled scores.
	Coarse float64
}

// Slopes returns the slope of each head. Heads that are no power of two have the slopes of the next lower power, and then
// every other one of the next higher.
func (a ALiBi) Slopes(heads int) []float64 {
	power := 1
	for 2*power <= heads {
		power *= 2
	}
	slopes := make([]float64, heads)
	for h := range slopes {
		exponent := float64(h+1) / float64(power)
		if h >= power {
			exponent = (float64(h-power) + 0.5) / float64(power)
		}
		slopes[h] = math.Pow(2, -a.Max*exponent)
	}
	return slopes
}

func (a ALiBi) check() error {
	if a.Max <= 0 {
		return fmt.Errorf("config.json: the largest ALiBi bias is %g, want a positive number", a.Max)
	}
	return nil
}
