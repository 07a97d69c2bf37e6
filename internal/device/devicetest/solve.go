package devicetest

import (
	"math"
	"testing"

	"gqa/internal/device"
)

// checkSolve puts solutions into their equations.
func checkSolve(t *testing.T, d device.Device) {
	const damp = 0.25
	for _, c := range []struct{ n, m int }{{1, 1}, {5, 3}, {64, 64}, {65, 1}, {200, 33}} {
		half, right := normal(1, c.n*c.n), normal(2, c.m*c.n)
		s := make([]float32, c.n*c.n) // positive definite
		for i := range c.n {
			for j := range i + 1 {
				for k := range c.n {
					s[i*c.n+j] += half[i*c.n+k] * half[j*c.n+k]
				}
				s[j*c.n+i] = s[i*c.n+j]
			}
		}
		x := d.Solve(s, right, c.n, damp)
		if len(x) != len(right) {
			t.Fatalf("n=%d, m=%d: %d numbers, want %d: %v", c.n, c.m, len(x), len(right), d.Err())
		}
		for i := range c.m {
			for j := range c.n {
				got := damp * x[i*c.n+j]
				for k := range c.n {
					got += x[i*c.n+k] * float64(s[k*c.n+j])
				}
				if want := float64(right[i*c.n+j]); !(math.Abs(got-want) <= 1e-9*float64(c.n)) {
					t.Fatalf("n=%d, m=%d: X·(S + damp·I) is %v at [%d, %d], want %v", c.n, c.m, got, i, j, want)
				}
			}
		}
		s[c.n*c.n/2] = float32(math.NaN())
		s[len(s)-1] = -1
		if x := d.Solve(s, right, c.n, damp); x != nil {
			t.Errorf("n=%d: a solution of equations whose matrix is not positive definite", c.n)
		}
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}
