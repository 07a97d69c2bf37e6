package nn

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

var halfFormats = []simd.Half{simd.BF16, simd.F16}

func TestRows(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {3, 7}, {5, 129}, {200, 150}} {
			rows, dim := s[0], s[1]
			y, b, db := cputest.Normal(1, rows*dim), cputest.Normal(2, dim), cputest.Normal(3, dim)
			wantY, wantDB := slices.Clone(y), slices.Clone(db)
			for i := range y {
				wantDB[i%dim] += y[i]
				wantY[i] += b[i%dim]
			}
			SumRows(db, y, rows, dim)
			cputest.Same(t, fmt.Sprintf("rows %d, dim %d: sum of rows", rows, dim), db, wantDB)
			AddRows(y, b, rows, dim)
			cputest.Same(t, fmt.Sprintf("rows %d, dim %d: y+b", rows, dim), y, wantY)
		}
	})
}

func TestGatherScatter(t *testing.T) {
	const dim = 300
	table, ids := cputest.Normal(1, 7*dim), []int32{3, 0, 6, 3, 3}
	y := cputest.Poisoned(len(ids) * dim)
	Gather(y, table, ids, dim)
	want := slices.Clone(table)
	for i, id := range ids {
		cputest.Same(t, "gathered row", y[i*dim:][:dim], table[int(id)*dim:][:dim])
		for j := range dim {
			want[int(id)*dim+j] += y[i*dim+j]
		}
	}
	cputest.WithThreads(t, func() []float32 {
		got := slices.Clone(table)
		ScatterAdd(got, y, ids, dim)
		cputest.Same(t, "scattered", got, want)
		return got
	})
}

func TestGatherHalf(t *testing.T) {
	const dim = 19
	for _, h := range halfFormats {
		table := make([]uint16, 5*dim)
		blas.EncodeHalf(h, table, cputest.Normal(1, len(table)))
		ids := []int32{4, 0, 4, 2}
		rows, want, got := make([]float32, len(table)), cputest.Poisoned(len(ids)*dim), cputest.Poisoned(len(ids)*dim)
		blas.DecodeHalf(h, rows, table)
		Gather(want, rows, ids, dim)
		GatherHalf(h, got, table, ids, dim)
		cputest.Same(t, "rows", got, want)
	}
}
