//go:build cuda && linux

package cuda

import (
	"math"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// adafactorRows is the number of rows over which a block sums columns.
const adafactorRows = 256

// Adafactor implements device.Optimizers.
func (d *Device) Adafactor(steps []device.AdafactorStep, scale device.Buffer, t int) {
	for _, s := range steps {
		if s.P.Len() == 0 {
			continue
		}
		relative := uint64(0)
		if s.Scale {
			relative = 1
		}
		beta := 1 - math.Pow(float64(t), -s.Rate)
		last := []uint64{math.Float64bits(s.LR), math.Float64bits(s.Threshold), math.Float64bits(s.Decay), relative}
		if s.Row.None() {
			n := d.sameLength("Adafactor", s.P, s.G, s.V)
			args := []uint64{addr(s.P), addr(s.G), addr(s.V), uint64(s.G.Format()), addr(scale), uint64(n), math.Float64bits(beta)}
			d.launch(optimSource, "adafactor_vector", cuda.Grid{Threads: 1024}, append(args, last...)...)
			if !s.Copy.None() {
				d.Copy(s.Copy, s.P)
			}
			continue
		}
		d.adafactor(s, scale, beta, last)
	}
}

// adafactor is Adafactor for one matrix. last are the last arguments of its last kernel.
func (d *Device) adafactor(s device.AdafactorStep, scale device.Buffer, beta float64, last []uint64) {
	d.sameLength("Adafactor", s.P, s.G)
	parts := (s.Rows + adafactorRows - 1) / adafactorRows
	sums, totals, part := d.New(device.F32, s.Rows), d.New(device.F32, 6), d.New(device.F32, parts*s.Cols)
	matrix := []uint64{
		addr(s.P), addr(s.G), addr(s.Copy), addr(s.Row), addr(s.Col), uint64(s.P.Format()), uint64(s.G.Format()), uint64(s.Copy.Format()),
		uint64(s.Rows), uint64(s.Cols), addr(scale),
	}
	launch := func(kernel string, grid cuda.Grid, args ...uint64) {
		grid.Threads = 256
		d.launch(optimSource, kernel, grid, append(matrix[:len(matrix):len(matrix)], args...)...)
	}
	total := func(i int, x device.Buffer) uint64 { // adds up numbers as total i
		at := totals.Addr() + uintptr(8*i)
		d.sum(at, []device.Term{{X: x, Weight: 1}})
		return uint64(at)
	}
	columns := min((s.Cols+255)/256, 64)
	launch("adafactor_rows", cuda.Grid{X: s.Rows}, addr(sums), math.Float64bits(beta))
	launch("adafactor_columns", cuda.Grid{X: columns, Y: parts}, addr(part), adafactorRows)
	launch("adafactor_columns_end", cuda.Grid{X: columns}, addr(part), uint64(parts), math.Float64bits(beta))
	total(1, sums)
	rows := total(0, s.Row)
	launch("adafactor_norm", cuda.Grid{X: s.Rows}, addr(sums), rows)
	total(2, sums)
	launch("adafactor_step", cuda.Grid{X: s.Rows}, append([]uint64{addr(totals)}, last...)...)
	for _, b := range []device.Buffer{sums, totals, part} {
		d.Free(b)
	}
}
