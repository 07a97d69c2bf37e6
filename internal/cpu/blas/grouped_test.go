package blas

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestGroupedGemmNT holds products that share their x to each alone: of one format or several, of few rows and of many.
func TestGroupedGemmNT(t *testing.T) {
	const k = 320
	widths := []int{64, 16, 208, 7}
	for _, formats := range [][]simd.Half{{simd.F32, simd.F32, simd.F32, simd.F32}, {simd.BF16, simd.BF16, simd.BF16}, {simd.BF16, simd.BF16, simd.BF16, simd.BF16}, {simd.F16, simd.F16}, {simd.F32, simd.BF16}, {simd.F32}, {}} {
		for _, m := range []int{0, 1, 5, 16, 17, 300} {
			t.Run(fmt.Sprintf("formats=%v/m=%d", formats, m), func(t *testing.T) {
				cputest.OnPaths(t, func(t *testing.T) { checkGroupedGemmNT(t, m, k, widths, formats) })
			})
		}
	}
}

func checkGroupedGemmNT(t *testing.T, m, k int, widths []int, formats []simd.Half) {
	x := cputest.Normal(1, m*(k+5)+1)
	ps, want := make([]Product, len(formats)), make([][]float32, len(formats))
	for i, h := range formats {
		n := widths[i]
		w := cputest.Normal(uint64(2+i), n*k)
		ps[i] = Product{N: n, W: w, Format: h}
		if h != simd.F32 {
			ps[i].W, ps[i].Half = nil, make([]uint16, n*k)
			EncodeHalf(h, ps[i].Half, w)
			ps[i].Packed = PackHalf(h, n, k, ps[i].Half)
			DecodeHalf(h, w, ps[i].Half)
		}
		want[i] = cputest.Poisoned(m * n)
		GemmRef(false, true, m, n, k, 1, x, k+5, w, k, 0, want[i], n)
	}
	cputest.WithThreads(t, func() []float32 {
		for i := range ps {
			ps[i].Y = cputest.Poisoned(m * ps[i].N)
		}
		GroupedGemmNT(m, k, x, k+5, ps)
		var all []float32
		for i, p := range ps {
			cputest.Compare(t, fmt.Sprintf("product %d", i), p.Y, want[i], 1e-4)
			all = slices.Concat(all, p.Y)
		}
		return all
	})
}

func TestGroupedGemmNTAllocatesNothing(t *testing.T) {
	const m, k = 8, 256
	x := cputest.Normal(1, m*k)
	for _, h := range []simd.Half{simd.F32, simd.BF16} {
		ps := make([]Product, 3)
		for i := range ps {
			n := 64 * (i + 1)
			ps[i] = Product{N: n, Y: make([]float32, m*n), W: make([]float32, n*k), Half: make([]uint16, n*k), Format: h}
			if h != simd.F32 {
				ps[i].Packed = PackHalf(h, n, k, ps[i].Half)
			}
		}
		f := func() { GroupedGemmNT(m, k, x, k, ps) }
		f()
		if n := testing.AllocsPerRun(20, f); n >= 1 {
			t.Errorf("format %d: %v allocations", h, n)
		}
	}
}
