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

// Defaults are what a sweep over a model does where nobody says otherwise.
type Defaults struct {
	Arch   *configs.Arch
	Curves []Curve
	Lacks  error // what keeps the advised curve from being there, or there as it should be; nil: nothing
}

// paper is the curve of Ainslie et al. (arXiv 2305.13245).
var paper = Curve{Method: convert.Mean, Grouping: convert.Contiguous}

// advised is what docs/study.md found to be best of what takes little more time.
var advised = Curve{Method: convert.Calibrated, Grouping: convert.Similar, Loss: recipe.KL}

// DefaultsOf are those of a model, a folder or file; of the embedded sample where model is empty.
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

// suits says what keeps a model's heads from becoming one in the curve's way; nil: nothing.
func (c Curve) suits(src *weights.Source) error {
	_, err := convert.NewPlan(src, c.options(src.Arch.KVHeads, &calibrate.Data{}))
	return err
}

// Groups are the group counts of a sweep over which nobody says to sweep: the model's KV heads, then always the largest
// proper divisor of the one before, to 1. So 8 4 2 1 for 8 and 12 6 3 1 for 12.
func Groups(kvHeads int) (groups []int) {
	for g := kvHeads; g > 1; g = largestDivisor(g) {
		groups = append(groups, g)
	}
	return append(groups, 1)
}

// largestDivisor of a number above 1 that is not the number itself.
func largestDivisor(n int) int {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return n / d
		}
	}
	return 1
}
