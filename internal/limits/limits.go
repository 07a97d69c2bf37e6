// Package limits defines the largest values allowed in flags and recipes, and checks memory requirements against the
// machine's memory. The limits are far beyond practical use, and small enough for their products not to overflow.
package limits

import "fmt"

// Maximum values.
const (
	Batch   = 65_536        // concurrent sequences
	Tokens  = 16_777_216    // per sequence
	Heads   = 65_536        // of attention, per model
	Threads = 4_096         // for computing
	Count   = 1_000_000_000 // steps, windows and other things that are only counted
	Step    = 100_000_000   // tokens per training step

	OriginalTokens = 1_000_000_000_000_000 // of pre-training
)

// Memory returns an error if bytes, needed for what, exceed the free memory.
func Memory(what string, bytes float64) error {
	if free := free(); bytes > free {
		return fmt.Errorf("%s takes %.1f GiB, but %.1f GiB of memory are free", what, bytes/(1<<30), free/(1<<30))
	}
	return nil
}

// unknown is the free memory assumed if the system does not report it: 64 TiB, more than any machine has.
const unknown = 1 << 46
