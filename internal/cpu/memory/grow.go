// Package memory allocates what the processor's kernels compute in: slabs, huge pages, scratch that grows.
package memory

// Grow returns a slice of n elements for scratch: s itself if its capacity allows. Its content is arbitrary.
func Grow[T float32 | float64 | uint16](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
