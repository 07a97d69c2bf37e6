package memory

import (
	"slices"
	"testing"
	"unsafe"
)

// Buffers are zero, of the size asked for, at a cache line, and apart from one another.
func TestSlab(t *testing.T) {
	var s Slab
	var all [][]float32
	for _, n := range []int{1, 17, 100_000, 3 << 20, 3 << 20, 9 << 20, 0, 5} {
		b := s.Make(n)
		if len(b) != n || cap(b) != n {
			t.Fatalf("a buffer of %d has length %d, capacity %d", n, len(b), cap(b))
		}
		if i := slices.IndexFunc(b, func(x float32) bool { return x != 0 }); i >= 0 {
			t.Fatalf("buffer of %d: element %d is %v", n, i, b[i])
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(b))); n > 0 && at%64 != 0 {
			t.Errorf("buffer of %d at %#x", n, at)
		}
		for i := range b {
			b[i] = float32(len(all) + 1)
		}
		all = append(all, b)
	}
	for i, b := range all {
		if j := slices.IndexFunc(b, func(x float32) bool { return x != float32(i+1) }); j >= 0 {
			t.Errorf("buffer %d: another wrote element %d", i, j)
		}
	}
}
