package simd_test

import (
	"fmt"
	"math"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestInts holds every number of an encoded row to the nearest multiple of the scale, on every path, with gaps between rows.
func TestInts(t *testing.T) {
	for f, largest := range map[simd.Ints]float64{simd.I8: 127, simd.I4: 7} {
		for _, w := range []int{2, 30, 32, 64, 80, 128} {
			const rows = 5
			x, lds := cputest.Normal(uint64(w), rows*w), f.Bytes(w)+3
			clear(x[w : 2*w])
			src, scales := make([]byte, rows*lds), make([]float32, rows)
			for r := range rows {
				scales[r] = f.Encode(src[r*lds:], x[r*w:][:w])
				for i := range w {
					n, want := float64(f.Value(src[r*lds:], i, w)), float64(x[r*w+i])
					if math.Abs(n) > largest || math.Abs(n*float64(scales[r])-want) > 0.5001*float64(scales[r]) {
						t.Fatalf("format %d: %v of %d numbers is %v times %v", f, want, w, n, scales[r])
					}
				}
			}
			cputest.OnPaths(t, func(t *testing.T) {
				got := cputest.Poisoned(rows * w)
				f.DecodeRows(got, src, lds, scales, rows, w)
				for i, g := range got {
					if want := float32(f.Value(src[i/w*lds:], i%w, w)) * scales[i/w]; g != want {
						t.Fatalf("format %d, rows of %d: number %d is %v, want %v", f, w, i, g, want)
					}
				}
			})
		}
	}
}

// TestIntsNotFinite shows that a number that cannot be encoded does not become another silently.
func TestIntsNotFinite(t *testing.T) {
	for _, f := range []simd.Ints{simd.I8, simd.I4} {
		for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			row, dst := make([]float32, 32), make([]byte, 32)
			row[3] = float32(x)
			if scale := f.Encode(dst, row); scale == scale {
				t.Errorf("format %d: a row with %v has the scale %v, want NaN", f, x, scale)
			}
		}
		for _, x := range []float32{0, 1e-44, 1, 3e38} {
			row, dst := []float32{x, -x}, make([]byte, 2)
			scale := f.Encode(dst, row)
			got := make([]float32, 2)
			f.DecodeRows(got, dst, f.Bytes(2), []float32{scale}, 1, 2)
			cputest.Compare(t, fmt.Sprintf("format %d, %g", f, x), got, row, 1e-6)
		}
	}
}
