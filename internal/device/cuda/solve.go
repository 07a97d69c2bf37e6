//go:build cuda && linux

package cuda

import (
	"fmt"
	"math"
	"unsafe"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// side is that of the blocks of a Cholesky factor.
const side = 64

var solveSource = source("solve", fmt.Sprintf("SIDE=%d", side))

// matrix64 is a row-major matrix in f64.
type matrix64 struct {
	device.Buffer // of twice as many numbers
	cols          int
}

func (d *Device) matrix64(rows, cols int) matrix64 {
	return matrix64{d.New(device.F32, 2*rows*cols), cols}
}

// at returns the part of the matrix from a row and a column on.
func (m matrix64) at(row, col int) cuda.Matrix {
	return cuda.Matrix{At: m.Addr() + uintptr(8*(row*m.cols+col)), Type: cuda.F64, LD: m.cols}
}

// Solve implements device.Systems, by S + damp·I = L·Lᵀ (Cholesky) and then Y·Lᵀ = C and X·L = Y, each by blocks of columns: what a
// block contributes to the others is a matrix product.
func (d *Device) Solve(s, c []float32, n int, damp float64) []float64 {
	if n == 0 || len(c) == 0 {
		return []float64{}
	}
	rows := len(c) / n
	a, l, x, y, inverse := d.matrix64(n, n), d.matrix64(n, n), d.matrix64(rows, n), d.matrix64(rows, n), d.matrix64((n+side-1)/side*side, side)
	bad := d.New(device.F32, 1)
	defer func() {
		for _, b := range []device.Buffer{a.Buffer, l.Buffer, x.Buffer, y.Buffer, inverse.Buffer, bad} {
			d.Free(b)
		}
	}()
	d.Clear(bad)
	d.widen(a, s, damp)
	d.widen(x, c, 0)
	product := func(tb bool, m, n, k int, alpha float32, a, b cuda.Matrix, beta float32, c cuda.Matrix) {
		if m > 0 && n > 0 && !d.stopped() {
			d.gpu.Multiply(cuda.Product{TB: tb, M: m, N: n, K: k, Alpha: alpha, Beta: beta, A: a, B: b, C: c})
		}
	}
	// inverted returns the inverse of a diagonal block of L.
	inverted := func(j, w int) cuda.Matrix {
		return cuda.Matrix{At: inverse.Addr() + uintptr(8*j*side), Type: cuda.F64, LD: w}
	}
	for j := 0; j < n; j += side {
		w := min(side, n-j)
		next := j + w
		block := inverted(j, w)
		d.launch(solveSource, "cholesky_block", cuda.Grid{Threads: 256}, uint64(block.At), addr(bad), uint64(a.at(j, j).At), uint64(n), uint64(w))
		product(true, n-next, w, w, 1, a.at(next, j), block, 0, l.at(next, j))
		product(true, n-next, n-next, w, -1, l.at(next, j), l.at(next, j), 1, a.at(next, next))
		product(true, rows, w, w, 1, x.at(0, j), block, 0, y.at(0, j))
		product(true, rows, n-next, w, -1, y.at(0, j), l.at(next, j), 1, x.at(0, next))
	}
	for j := (n - 1) / side * side; j >= 0; j -= side {
		w := min(side, n-j)
		product(false, rows, w, w, 1, y.at(0, j), inverted(j, w), 0, x.at(0, j))
		product(false, rows, j, w, -1, x.at(0, j), l.at(j, 0), 1, y.at(0, 0))
	}
	host := d.Host(x.Buffer)
	if flag := d.Host(bad); d.stopped() || d.Err() != nil || flag[0] != 0 {
		return nil
	}
	return unsafe.Slice((*float64)(unsafe.Pointer(&host[0])), rows*n)
}

// widen copies numbers to a matrix and adds damp to its diagonal.
func (d *Device) widen(dst matrix64, x []float32, damp float64) {
	from := d.Put(x)
	defer d.Unload(from)
	d.launch(solveSource, "widen", cuda.Grid{X: 4 * d.gpu.Units, Threads: 256}, addr(dst.Buffer), addr(from), math.Float64bits(damp),
		uint64(dst.cols), uint64(len(x)))
}
