package kernels

// lookahead is memory that will be read soon. A kernel asks for the line at base+from, then for the one stride bytes
// behind, and so on. It may reach past the end of what base points into: nothing is read.
type lookahead struct {
	base         *byte
	from, stride int
}

// at moves l, whose stride is 16 elements, to element i and a stride of n elements.
func (l lookahead) at(i, n int) lookahead {
	return lookahead{l.base, l.from + i*l.stride/16, n * l.stride / 16}
}
