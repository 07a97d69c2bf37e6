package kernels

import "unsafe"

// lookahead is memory that will be read soon. A kernel asks for the line at base+from, then for the one stride bytes
// behind, and so on. It may reach past the end of what base points into: nothing is read.
type lookahead struct {
	base         *byte
	from, stride int
}

// ahead returns the rows from t on in steps of an element, if they lie without gaps, else the start of row t alone.
func (v View) ahead(b, h, t, d int) lookahead {
	i := v.index(b, h, t)
	l := lookahead{}
	if v.Format == Full {
		l.base, l.stride = (*byte)(unsafe.Pointer(&v.Data[i])), 4
	} else {
		l.base, l.stride = (*byte)(unsafe.Pointer(&v.Half[i])), 2
	}
	if v.Row != d {
		l.stride = 0
	}
	return l
}

// at moves l, whose stride is one element, to element i and a stride of n elements.
func (l lookahead) at(i, n int) lookahead { return lookahead{l.base, i * l.stride, n * l.stride} }

// line returns the memory of a 16-bit format from row t on.
func (v View) line(b, h, t int) lookahead {
	return lookahead{base: (*byte)(unsafe.Pointer(&v.Half[v.index(b, h, t)]))}
}
