package nn

import (
	"fmt"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

func TestMultiplyHeads(t *testing.T) {
	for _, trans := range []bool{false, true} {
		for _, rows := range []int{1, 7, 16, 17, 150} {
			for _, format := range []simd.Half{simd.F32, simd.BF16} {
				p := HeadProduct{Trans: trans, Heads: 3, Rows: rows, N: 37, K: 20}
				p.X, p.Y = newView(1, 1, rows, 3, 20, false), newView(0, 1, rows, 3, 37, false)
				if p.W = cputest.Normal(2, 3*37*20); format != simd.F32 {
					half, _ := encoded(format, View{Data: p.W})
					p.W, p.Half, p.Format = nil, half.Half, format
				}
				want := p
				want.Y = newView(0, 1, rows, 3, 37, false)
				MultiplyHeadsRef(want)
				cputest.OnPaths(t, func(t *testing.T) {
					p.Y = newView(0, 1, rows, 3, 37, false)
					MultiplyHeads(p)
					cputest.Compare(t, fmt.Sprintf("trans %v, %d rows", trans, rows), p.Y.Data, want.Y.Data, 5e-6)
				})
			}
		}
	}
}
