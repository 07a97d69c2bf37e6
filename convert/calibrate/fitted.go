package calibrate

import (
	"math"

	"gqa/internal/cpu/blas"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
)

// fitted is a weight [rows, cols] being fitted: matrices by Muon, vectors by Adam (arXiv 1412.6980).
type fitted struct {
	param      *spago.Weight
	values     []float32 // the weight itself, updated at the end of a descent
	rows, cols int
	best       device.Buffer
	m, v       device.Buffer // averages of the gradient and, for Adam, of its square
	size       float64       // root mean square at the start
}

const (
	momentum = 0.9
	beta2    = 0.98
)

func newFitted(e *spago.Engine, values []float32, rows int) *fitted {
	cols := len(values) / rows
	return &fitted{values: values, rows: rows, cols: cols, param: e.Trainable(values, rows, cols)}
}

func (x *fitted) matrix() bool { return x.rows > 1 && x.cols > 1 }

// begin resets the averages but keeps the weight.
func (x *fitted) begin(d device.Device) {
	x.m = zeros(d, x.m, len(x.values))
	if !x.matrix() {
		x.v = zeros(d, x.v, len(x.values))
	}
	x.size = math.Sqrt(blas.SumSquares(x.values)/float64(len(x.values))) + 1e-12
}

// zeros returns b cleared, or a new buffer of n zeros.
func zeros(d device.Device, b device.Buffer, n int) device.Buffer {
	if b.None() {
		b = d.New(device.F32, n)
	}
	d.Clear(b)
	return b
}
