//go:build linux

package nn

import (
	"testing"

	"gqa/internal/cpu/cputest"
)

// TestAttendBounds has operands that end at protected memory, for one query and for several.
func TestAttendBounds(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, heads := range []int{1, 2, 3, 5, 16, 20} {
			for _, dim := range []int{16, 36, 64, 80, 96} {
				for _, size := range [][2]int{{1, 45}, {1, 48}, {9, 45}} {
					c := attentionBench(2, size[0], size[1], heads, 1, dim, true)
					c.Causal = false
					for _, v := range []*View{&c.q, &c.k, &c.v, &c.out, &c.dout, &c.dq, &c.dk, &c.dv} {
						v.Data = cputest.Guarded(t, v.Data)
					}
					c.run()
					c.runBackward()
					for _, h := range halfFormats {
						half := *c
						half.k.Format, half.k.Half = h, cputest.Guarded(t, make([]uint16, len(c.k.Data)))
						half.v.Format, half.v.Half = h, cputest.Guarded(t, make([]uint16, len(c.v.Data)))
						half.run()
					}
					for _, f := range intsFormats {
						small := *c
						for _, v := range []*View{&small.k, &small.v} {
							v.Ints, v.Bytes = f, cputest.Guarded(t, make([]byte, f.Bytes(len(v.Data))))
							v.Scales = cputest.Guarded(t, make([]float32, len(v.Data)/dim))
						}
						small.run()
					}
				}
			}
		}
	})
}
