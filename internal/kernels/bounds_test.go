//go:build linux

package kernels

import (
	"testing"
	"unsafe"

	"gqa/internal/cpu/pool"

	"golang.org/x/sys/unix"
)

// guarded returns a copy of the values that ends where memory begins that no one may touch: reading or writing past the end
// crashes the test.
func guarded[T any](t *testing.T, values []T) []T {
	t.Helper()
	page, size := unix.Getpagesize(), len(values)*int(unsafe.Sizeof(*new(T)))
	whole := pool.RoundUp(size, page)
	memory, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	if err := unix.Mprotect(memory[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	s := unsafe.Slice((*T)(unsafe.Pointer(&memory[whole-size])), len(values))
	copy(s, values)
	return s
}

// TestBounds runs loops over operands that end at a guard, for every length of the last registers.
func TestBounds(t *testing.T) {
	const most = 70
	normals := func() []float32 { return guarded(t, normal(1, most)) }
	x, y, z, p, m, v, half := normals(), normals(), normals(), normals(), normals(), normals(), guarded(t, make([]uint16, most))
	end := func(s []float32, n int) []float32 { return s[most-n:] }
	onPaths(t, func(*testing.T) {
		for n := 1; n <= most; n++ {
			x, y, z, half := end(x, n), end(y, n), end(z, n), half[most-n:]
			kern.dot(x, y)
			kern.sum(x)
			kern.max(x)
			kern.add(z, x, y)
			kern.mul(z, x, y)
			kern.axpy(2, x, z)
			kern.mulAdd(2, x, y, z)
			kern.scale(z, 0.5)
			kern.affine(z, x, 2, 3)
			kern.rotate(z, end(p, n), x, y, x, y, 1)
			kern.expSum(z, x, 1)
			kern.sigmoid(z, x, 1, 0)
			kern.slope(z, x, 1, 0)
			kern.cdf(z, x)
			kern.adamw(end(p, n), x, end(m, n), end(v, n), &adamwConstants{})
			kern.toBF16(half, x)
			kern.fromBF16(x, half)
			kern.toF16(half, x)
			kern.fromF16(x, half)
		}
	})
}

// TestGemmBounds does so for products: the last row of each operand ends at a guard.
func TestGemmBounds(t *testing.T) {
	sizes := [][3]int{{1, 37, 19}, {1, 36, 19}, {1, 8, 48}, {3, 6, 5}, {7, 3, 33}, {14, 31, 16}, {16, 1, 8}, {25, 47, 9}, {33, 18, 70}, {90, 61, 67}, {127, 125, 37}}
	onPaths(t, func(t *testing.T) {
		for _, s := range sizes {
			m, n, k := s[0], s[1], s[2]
			a, b, c := guarded(t, normal(1, m*k)), guarded(t, normal(2, n*k)), guarded(t, normal(3, m*n))
			eitherWay(func() {
				for i := range 4 {
					_, lda := storedAs(i&1 != 0, m, k)
					_, ldb := storedAs(i&2 != 0, k, n)
					Gemm(i&1 != 0, i&2 != 0, m, n, k, 1, a, lda, b, ldb, 1, c, n)
				}
				for _, h := range halfFormats {
					GemmNTHalf(h, m, n, k, a, k, guarded(t, make([]uint16, n*k)), k, 0, c, n)
				}
			})
		}
	})
}

// TestAttendBounds does so for attention of one query and of several.
func TestAttendBounds(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, heads := range []int{1, 2, 3, 5, 16, 20} {
			for _, dim := range []int{16, 36, 64, 80, 96} {
				for _, size := range [][2]int{{1, 45}, {1, 48}, {9, 45}} {
					c := attentionBench(2, size[0], size[1], heads, 1, dim, true)
					c.Causal = false
					for _, v := range []*View{&c.q, &c.k, &c.v, &c.out, &c.dout, &c.dq, &c.dk, &c.dv} {
						v.Data = guarded(t, v.Data)
					}
					c.run()
					c.runBackward()
					for _, h := range halfFormats {
						half := *c
						half.k.Format, half.k.Half = h, guarded(t, make([]uint16, len(c.k.Data)))
						half.v.Format, half.v.Half = h, guarded(t, make([]uint16, len(c.v.Data)))
						half.run()
					}
				}
			}
		}
	})
}
