package kernels

// grown returns a slice of n elements, s itself if it is long enough. The content is arbitrary.
func grown[T float32 | float64 | uint16](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
