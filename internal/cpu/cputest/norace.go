//go:build !race

package cputest

// Race reports whether the race detector is in use, which slows computations down by more than ten times.
const Race = false
