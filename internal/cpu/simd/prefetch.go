package simd

// Prefetch is memory that will be read soon. A kernel prefetches the line at Base+From, then the one Stride bytes behind it, and so
// on. It may reach past the end of what Base points into, as nothing is read.
type Prefetch struct {
	Base         *byte
	From, Stride int
}

// At returns p, whose stride is 16 elements, moved by i elements and with a stride of n elements.
func (p Prefetch) At(i, n int) Prefetch {
	return Prefetch{p.Base, p.From + i*p.Stride/16, n * p.Stride / 16}
}
