package kernels

import "unsafe"

// lookahead is memory that will be read soon. A kernel asks for the line at base+from, then for the one stride bytes
// behind, and so on. It may reach past the end of what base points into: nothing is read.
type lookahead struct {
	base         *byte
	from, stride int
}

// ahead returns the rows from t on in steps of 16 elements, if they lie without gaps, else the start of row t alone.
func (v View) ahead(b, h, t, d int) lookahead {
	i := v.index(b, h, t)
	l := lookahead{}
	if v.Format == F32 {
		l.base, l.stride = (*byte)(unsafe.Pointer(&v.Data[i])), 64
	} else {
		l.base, l.stride = (*byte)(unsafe.Pointer(&v.Half[i])), 32
	}
	if v.Row != d {
		l.stride = 0
	}
	return l
}

// at moves l, whose stride is 16 elements, to element i and a stride of n elements.
func (l lookahead) at(i, n int) lookahead {
	return lookahead{l.base, l.from + i*l.stride/16, n * l.stride / 16}
}
