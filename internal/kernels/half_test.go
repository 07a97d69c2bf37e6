package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/pool"
)

var halfFormats = []Half{BF16, F16}

// everyHalf returns all numbers of 16 bits, and one more so that the last is not a whole register.
func everyHalf() []uint16 {
	s := make([]uint16, 1<<16+1)
	for i := range s {
		s[i] = uint16(i)
	}
	return s
}

func TestDecodeHalf(t *testing.T) {
	all := everyHalf()
	want, got := make([]float32, len(all)), make([]float32, len(all))
	for _, h := range halfFormats {
		DecodeHalfRef(h, want, all)
		onPaths(t, func(t *testing.T) {
			copy(got, poisoned(len(got)))
			DecodeHalf(h, got, all)
			for i, g := range got {
				if w := want[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
					t.Fatalf("format %d: %#04x is %v, want %v", h, all[i], g, w)
				}
			}
		})
	}
}

// TestEncodeHalf has every number of each format, those half way to the next, and the float32 beside each.
func TestEncodeHalf(t *testing.T) {
	for _, h := range halfFormats {
		src := edges(h)
		want, got := make([]uint16, len(src)), make([]uint16, len(src))
		EncodeHalfRef(h, want, src)
		onPaths(t, func(t *testing.T) {
			for i := range got {
				got[i] = 0xdead
			}
			EncodeHalf(h, got, src)
			for i, g := range got {
				if src[i] != src[i] && g&^(1<<15) > h.infinity() {
					continue
				}
				if g != want[i] {
					t.Fatalf("format %d: %v is %#04x, want %#04x", h, src[i], g, want[i])
				}
			}
		})
	}
}

func edges(h Half) (s []float32) {
	for bits := range h.infinity() {
		v := h.magnitude(bits)
		middle := float32((v + h.magnitude(bits+1)) / 2)
		s = append(s, float32(v), middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, math.MaxFloat32))
	}
	s = append(s, float32(math.Inf(1)), math.MaxFloat32, 65519.996, 65520, nan, math.Float32frombits(0x7f800001))
	for _, v := range s[:len(s):len(s)] {
		s = append(s, math.Float32frombits(math.Float32bits(v)^1<<31))
	}
	return s
}

func TestHalfSizes(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 7, 15, 16, 17, 31, 64, 100} {
			src := normal(1, n)
			for _, h := range halfFormats {
				want, got := make([]uint16, n), make([]uint16, n+1)
				EncodeHalfRef(h, want, src)
				EncodeHalf(h, got[:n], src)
				if !slices.Equal(got[:n], want) || got[n] != 0 {
					t.Fatalf("format %d, %d numbers: %x, want %x", h, n, got, want)
				}
				back := poisoned(n + 1)
				DecodeHalf(h, back[:n], got[:n])
				for i, v := range back[:n] {
					if v != h.decode(got[i]) {
						t.Fatalf("format %d, number %d of %d: %v, want %v", h, i, n, v, h.decode(got[i]))
					}
				}
				if back[n] == back[n] {
					t.Fatalf("format %d: wrote past %d numbers", h, n)
				}
			}
		}
	})
}

func TestGatherHalf(t *testing.T) {
	const dim = 19
	for _, h := range halfFormats {
		table := make([]uint16, 5*dim)
		EncodeHalf(h, table, normal(1, len(table)))
		ids := []int32{4, 0, 4, 2}
		rows, want, got := make([]float32, len(table)), poisoned(len(ids)*dim), poisoned(len(ids)*dim)
		DecodeHalf(h, rows, table)
		Gather(want, rows, ids, dim)
		GatherHalf(h, got, table, ids, dim)
		same(t, "rows", got, want)
	}
}

// TestGemmNTHalf holds a product with encoded weights to its definition and, but for tiles, bit by bit to the product with
// the same weights decoded before.
func TestGemmNTHalf(t *testing.T) {
	sizes := [][3]int{
		{1, 1, 1},
		{1, 9, 33},
		{2, 3, 130},
		{3, 33, 17},
		{2, 13, 48},
		{3, 34, 96},
		{8, 130, 300},
		{9, 70, 64},
		{16, 67, 1200},
		{1, 48, 96},
		{3, 97, 64},
		{8, 100, 1056},
		{16, 33, 32},
		{17, 5, 30},
		{29, 47, 16},
		{33, 65, 259},
		{70, nc + 21, kc + 3},
	}
	onPaths(t, func(t *testing.T) {
		for _, s := range sizes {
			if testing.Short() && s[0]*s[1]*s[2] > 1<<21 {
				continue
			}
			for i, beta := range []float32{0, 1, 0.5} {
				checkGemmNTHalf(t, halfFormats[i%2], s[0], s[1], s[2], beta)
				checkGemmNTHalf(t, BF16, s[0], s[1], s[2], beta)
			}
		}
	})
}

func checkGemmNTHalf(t *testing.T, h Half, m, n, k int, beta float32) {
	t.Helper()
	x, lda, b, ldb, got, ldc := gemmCase{false, true, m, n, k, 1, beta}.operands()
	w := make([]uint16, len(b))
	EncodeHalf(h, w, b)
	DecodeHalf(h, b, w)
	want, plain := clone(got), clone(got)
	GemmNTHalf(h, m, n, k, x, lda, w, ldb, beta, got, ldc)
	what := fmt.Sprintf("format %d, m %d, n %d, k %d, beta %v: y", h, m, n, k, beta)
	GemmNTHalfRef(h, m, n, k, x, lda, w, ldb, beta, want, ldc)
	compare(t, what, got, want, 2*(1e-6+1.2e-7*float64(k)))
	Gemm(false, true, m, n, k, 1, x, lda, b, ldb, beta, plain, ldc)
	if kern.tiles == nil {
		same(t, what, got, plain)
	}
}

func TestGemmNTHalfThreads(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, m := range []int{3, 100} {
			const n, k = 1500, 96
			x, w := normal(1, m*k), make([]uint16, n*k)
			EncodeHalf(BF16, w, normal(2, n*k))
			withThreads(t, func() []float32 {
				y := poisoned(m * n)
				GemmNTHalf(BF16, m, n, k, x, k, w, k, 0, y, n)
				return y
			})
		}
	})
}

func TestGemmNTHalfAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	for _, m := range []int{1, 8, 40} {
		const n, k = 512, 512
		x, w, y := normal(1, m*k), make([]uint16, n*k), make([]float32, m*n)
		for threads := 1; threads <= 2; threads++ {
			pool.SetThreads(threads)
			f := func() { GemmNTHalf(F16, m, n, k, x, k, w, k, 0, y, n) }
			if allocs := testing.AllocsPerRun(20, f); allocs >= 1 {
				t.Errorf("m %d, threads %d: %v allocations", m, threads, allocs)
			}
		}
	}
}

// TestGemmNTPacked holds a product with packed weights to its definition: where there is no packing, PackHalf says so.
func TestGemmNTPacked(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, s := range [][3]int{{1, 16, 32}, {3, 80, 96}, {8, 64, 1056}, {16, 208, 64}, {17, 144, 32}, {301, 96, 64}, {2, 70, 64}, {2, 64, 40}} {
			m, n, k := s[0], s[1], s[2]
			x, w := normal(1, m*k), make([]uint16, n*k)
			EncodeHalf(BF16, w, normal(2, n*k))
			packed := PackHalf(BF16, n, k, w)
			if can := kern.tiles != nil && n%tileSize == 0 && k%tileDepth == 0; can != (packed != nil) {
				t.Fatalf("%v: packed is %v", s, packed)
			}
			if packed == nil {
				continue
			}
			want := poisoned(m * n)
			GemmNTHalfRef(BF16, m, n, k, x, k, w, k, 0, want, n)
			withThreads(t, func() []float32 {
				y := poisoned(m*(n+3) + 1)
				GemmNTPacked(m, x, k, packed, y, n+3)
				rows := make([]float32, 0, m*n)
				for i := range m {
					rows = append(rows, y[i*(n+3):][:n]...)
					if next := y[i*(n+3)+n]; next == next {
						t.Fatalf("%v: wrote behind row %d", s, i)
					}
				}
				compare(t, fmt.Sprintf("%v: y", s), rows, want, 2*(1e-6+1.2e-7*float64(k)))
				return rows
			})
		}
	})
}
