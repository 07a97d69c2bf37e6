package sweep

import (
	"fmt"

	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/internal/weights"
)

// Defaults are the default choices of a sweep over a model.
type Defaults struct {
	Arch   *configs.Arch
	Curves []Curve
	Lacks  error // why the advised curve is missing or not in its full form; nil if it is complete
}

// paper is the curve of Ainslie et al. (arXiv 2305.13245).
var paper = Curve{Method: convert.Mean, Grouping: convert.Contiguous}

// advised is the best curve in docs/study.md among those that take little more time.
var advised = Curve{Method: convert.Calibrated, Grouping: convert.Similar, Loss: recipe.KL}

// DefaultsOf returns the defaults for a model, which is a folder or file, or for the embedded sample if model is empty.
func DefaultsOf(model string) (Defaults, error) {
	d := Defaults{Curves: []Curve{paper, advised}}
	if model == "" {
		config, err := sample.File("config.json")
		if err == nil {
			d.Arch, err = configs.Resolve(config, "")
		}
		return d, err
	}
	src, err := weights.Open(model, weights.Options{})
	if err != nil {
		return d, fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	d.Arch = src.Arch
	contiguous := advised
	contiguous.Grouping = convert.Contiguous
	if d.Lacks = advised.suits(src); d.Lacks != nil {
		d.Curves[1] = contiguous
		if err := contiguous.suits(src); err != nil {
			d.Curves, d.Lacks = d.Curves[:1], err
		}
	}
	return d, nil
}

// suits returns the reason why a model's heads cannot be merged in the curve's way, or nil if they can.
func (c Curve) suits(src *weights.Source) error {
	return c.check(src, src.Arch.KVHeads, &calibrate.Data{})
}

// Groups returns the default group counts of a sweep: the model's KV heads, followed repeatedly by the largest proper
// divisor of the previous count, down to 1. The result is 8 4 2 1 for 8 and 12 6 3 1 for 12.
func Groups(kvHeads int) (groups []int) {
	for g := kvHeads; g > 1; g = largestDivisor(g) {
		groups = append(groups, g)
	}
	return append(groups, 1)
}

// largestDivisor returns the largest proper divisor of a number above 1.
func largestDivisor(n int) int {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return n / d
		}
	}
	return 1
}
