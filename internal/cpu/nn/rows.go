package nn

import (
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// stripe is how many columns a task of a sum over rows has: no two tasks write to the same element, and each adds the rows in
// order.
const stripe = 128

// AddRows adds b [dim] to every row of y [rows, dim].
func AddRows(y, b []float32, rows, dim int) {
	if rows*dim <= pool.BlockElements {
		addRows(y, b, 0, rows, dim)
		return
	}
	pool.For(rows, pool.Grain(dim), func(lo, hi int) { addRows(y, b, lo, hi, dim) })
}

func addRows(y, b []float32, lo, hi, dim int) {
	for r := lo; r < hi; r++ {
		simd.Axpy(1, b[:dim], y[r*dim:][:dim])
	}
}

// SumRows adds the sum of the rows of dy [rows, dim] to db [dim].
func SumRows(db, dy []float32, rows, dim int) {
	pool.For(dim, stripe, func(lo, hi int) {
		for r := range rows {
			simd.Axpy(1, dy[r*dim+lo:][:hi-lo], db[lo:hi])
		}
	})
}

// Gather copies row ids[i] of table [·, dim] to row i of y [len(ids), dim].
func Gather(y, table []float32, ids []int32, dim int) {
	if len(ids)*dim <= pool.BlockElements {
		gather(y, table, ids, dim)
		return
	}
	pool.For(len(ids), pool.Grain(dim), func(lo, hi int) { gather(y[lo*dim:], table, ids[lo:hi], dim) })
}

func gather(y, table []float32, ids []int32, dim int) {
	for i, id := range ids {
		copy(y[i*dim:][:dim], table[int(id)*dim:][:dim])
	}
}

// ScatterAdd adds row i of dy [len(ids), dim] to row ids[i] of dtable [·, dim]; ids may repeat.
func ScatterAdd(dtable, dy []float32, ids []int32, dim int) {
	pool.For(dim, stripe, func(lo, hi int) {
		for i, id := range ids {
			simd.Axpy(1, dy[i*dim+lo:][:hi-lo], dtable[int(id)*dim+lo:][:hi-lo])
		}
	})
}

// GatherHalf is Gather from a table in the format h.
func GatherHalf(h simd.Half, y []float32, table []uint16, ids []int32, dim int) {
	for i, id := range ids {
		h.Decode(y[i*dim:][:dim], table[int(id)*dim:][:dim])
	}
}
