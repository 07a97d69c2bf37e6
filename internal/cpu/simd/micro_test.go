package simd_test

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestMicro holds every size of tile to its definition, with A by rows, by columns and by neither.
func TestMicro(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for m := 1; m <= simd.Gemm().MR; m++ {
			for n := 1; n <= simd.Gemm().NR; n++ {
				for _, k := range []int{1, 3, 8, 14} {
					for _, strides := range [][2]int{{k, 1}, {1, m}, {2, 2*m + 1}} {
						checkMicro(t, m, n, k, strides[0], strides[1])
					}
				}
			}
		}
	})
}

func checkMicro(t *testing.T, m, n, k, ars, acs int) {
	t.Helper()
	const gap = 2 // between rows of B and of C
	a, b := cputest.Normal(1, (m-1)*ars+(k-1)*acs+1), cputest.Normal(2, k*(n+gap))
	for _, acc := range []bool{false, true} {
		got := cputest.Poisoned(m * (n + gap))
		if acc {
			for i, v := range cputest.Normal(3, len(got)) {
				if i%(n+gap) < n {
					got[i] = v
				}
			}
		}
		want := slices.Clone(got)
		simd.Gemm().Micro(m, n, k, a, ars, acs, b, n+gap, got, n+gap, acc)
		simd.MicroRef(m, n, k, a, ars, acs, b, n+gap, want, n+gap, acc)
		cputest.Compare(t, fmt.Sprintf("m %d, n %d, k %d, strides of A %d and %d, acc %v: C", m, n, k, ars, acs, acc), got, want, 1e-5)
	}
}
