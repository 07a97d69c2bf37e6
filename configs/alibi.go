package configs

import (
	"fmt"
	"math"
)

// ALiBi is attention with linear biases (Press et al. 2021, arXiv 2108.12409): a head's score decreases linearly with
// the distance of the key, by a slope per head, and there are no position embeddings.
type ALiBi struct {
	Max float64 // the last head has the slope 2^-Max, if the number of heads is a power of two
	// Coarse, if not 0, means that the biases (the slope and its product with the key's position) are computed in
	// bfloat16 and added Coarse times before the scores are scaled; otherwise they are added once to the scaled scores.
	Coarse float64
}

// Slopes returns the slope of each head. If heads is not a power of two, the first heads have the slopes of the next
// lower power, and the others every other slope of the next higher power.
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
