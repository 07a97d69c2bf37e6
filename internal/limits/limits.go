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

// Free returns the free memory in bytes; 64 TiB if the system does not report it.
func Free() float64 { return free() }

// Memory returns an error if bytes, needed for what, exceed the free memory.
func Memory(what string, bytes float64) error {
	if free := free(); bytes > free {
		return MemoryError{What: what, Bytes: bytes, Free: free}
	}
	return nil
}

// MemoryError reports something that does not fit into the free memory.
type MemoryError struct {
	What        string
	Bytes, Free float64
	Device      string // whose memory it is; empty for the processor's
}

// Error compares both sizes.
func (e MemoryError) Error() string {
	on := ""
	if e.Device != "" {
		on = " on " + e.Device
	}
	return fmt.Sprintf("%s takes %.1f GiB, but %.1f GiB of memory are free%s", e.What, e.Bytes/(1<<30), e.Free/(1<<30), on)
}

// unknown is the free memory assumed if the system does not report it: 64 TiB, more than any machine has.
const unknown = 1 << 46
