package sweep

import (
	"fmt"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// Arch is the architecture of a model, a folder or file; of the embedded sample where model is empty. What a sweep does where
// nobody says otherwise depends on it.
func Arch(model string) (*configs.Arch, error) {
	if model == "" {
		config, err := checkpoints.SampleFile("config.json")
		if err != nil {
			return nil, err
		}
		return configs.Resolve(config, "")
	}
	src, err := weights.Open(model, weights.Options{})
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	return src.Arch, nil
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
