// Package limits holds the largest numbers that flags and recipes may give, and checks what they ask for against the
// machine's memory. They are far beyond use, and small enough that their products do not overflow.
package limits

import "fmt"

// The largest values.
const (
	Batch   = 65_536        // sequences at once
	Tokens  = 16_777_216    // of a sequence
	Heads   = 65_536        // of a model's attention
	Threads = 4_096         // to compute with
	Count   = 1_000_000_000 // steps, windows and other things that are counted only
	Step    = 100_000_000   // tokens that one step of an up-training reads

	OriginalTokens = 1_000_000_000_000_000 // of a pre-training
)

// Memory refuses what does not fit into the memory that is free: bytes for what.
func Memory(what string, bytes float64) error {
	if free := free(); bytes > free {
		return MemoryError{what, bytes, free}
	}
	return nil
}

// MemoryError reports something that does not fit into the memory that is free.
type MemoryError struct {
	What        string
	Bytes, Free float64
}

// Error compares both sizes.
func (e MemoryError) Error() string {
	return fmt.Sprintf("%s takes %.1f GiB, and %.1f GiB of memory are free", e.What, e.Bytes/(1<<30), e.Free/(1<<30))
}

// unknown is what is taken to be free where the system does not tell: 64 TiB, more than any machine has.
const unknown = 1 << 46
