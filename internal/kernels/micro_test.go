package kernels

import (
	"fmt"
	"testing"
)

// TestMicro holds every size of tile to its definition, with A by rows, by columns and by neither.
func TestMicro(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for m := 1; m <= kern.mr; m++ {
			for n := 1; n <= kern.nr; n++ {
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
	a, b := normal(1, (m-1)*ars+(k-1)*acs+1), normal(2, k*(n+gap))
	for _, acc := range []bool{false, true} {
		got := poisoned(m * (n + gap))
		if acc {
			for i, v := range normal(3, len(got)) {
				if i%(n+gap) < n {
					got[i] = v
				}
			}
		}
		want := clone(got)
		kern.micro(m, n, k, a, ars, acs, b, n+gap, got, n+gap, acc)
		microRef(m, n, k, a, ars, acs, b, n+gap, want, n+gap, acc)
		compare(t, fmt.Sprintf("m %d, n %d, k %d, strides of A %d and %d, acc %v: C", m, n, k, ars, acs, acc), got, want, 1e-5)
	}
}
