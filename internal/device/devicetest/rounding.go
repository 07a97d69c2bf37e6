package devicetest

import (
	"math"
	"testing"

	"gqa/internal/device"
)

// checkRounding checks that a product has the precision of bfloat16 with Rounding, and that of float32 after it.
func checkRounding(t *testing.T, d device.Device) {
	const rows, n, k = 70, 48, 256
	x, w := normal(1, rows*k), normal(2, n*k)
	a, b, y := d.Put(x), d.Put(w), d.New(device.F32, rows*n)
	check := func(what string, relative float64) {
		for at, got := range d.Host(y) {
			sum, size := 0.0, 0.0
			for i := range k {
				p := float64(x[at/n*k+i]) * float64(w[at%n*k+i])
				sum, size = sum+p, size+math.Abs(p)
			}
			if off := math.Abs(float64(got) - sum); !(off <= relative*size) {
				t.Fatalf("%s: y[%d] is %v, want %v within %g", what, at, got, sum, relative*size)
			}
		}
	}
	multiply := func() { d.Gemm(false, true, rows, n, k, 1, a, k, b, k, 0, y, n) }
	device.Rounding(d, multiply)
	check("rounding", 1.0/128) // each factor has a relative error of at most 1/256
	multiply()
	check("not rounding", 1e-6)
}
