package optim

import (
	"math"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Adafactor is the optimizer of Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (arXiv 1804.04235),
// with the semantics of transformers.Adafactor without relative_step and beta1. Of the squares of a matrix's gradient it keeps the
// averages of rows and of columns.
type Adafactor struct {
	LR        float64 // learning rate of this step
	Rate      float64 // in step t, averages decay by 1 - t^-Rate
	Threshold float64 // the largest root mean square of an update, before LR
	Decay     float64 // weight decay, applied as p *= 1 - rate·Decay, with the rate of the next line
	Scale     bool    // the rate is LR times the root mean square of p, at least AdafactorFloor; otherwise it is LR
}

// The constants of transformers.Adafactor's eps: what is added to squares, and the smallest root mean square of a parameter.
const (
	AdafactorEps   = 1e-30
	AdafactorFloor = 1e-3
)

// Beta2 returns the decay of averages in step t, counted from 1.
func (o Adafactor) Beta2(t int) float64 { return 1 - math.Pow(float64(t), -o.Rate) }

// Keep returns what a parameter and its update are multiplied by, given the means of the squares of both.
func (o Adafactor) Keep(p, update float64) (keep, size float64) {
	lr := o.LR
	if o.Scale {
		lr *= max(AdafactorFloor, math.Sqrt(p))
	}
	return 1 - lr*o.Decay, lr / max(1, math.Sqrt(update)/o.Threshold)
}

// Step makes step t (the first is 1) on the matrix p [rows, cols] with gradient g·gscale and the averages of the rows and columns of its
// square, row [rows] and col [cols].
func (o Adafactor) Step(p, g, row, col []float32, rows, cols int, gscale float32, t int) {
	beta, scale := o.Beta2(t), float64(gscale)*float64(gscale)
	mix := func(average *float32, square float64) {
		*average = float32(beta*float64(*average) + (1-beta)*(scale*square+AdafactorEps))
	}
	pool.For(rows, pool.Grain(cols), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			x := g[r*cols:][:cols]
			mix(&row[r], float64(simd.Dot(x, x))/float64(cols))
		}
	})
	pool.For(cols, adafactorStripe, func(lo, hi int) {
		for j, square := range columnSquares(g, lo, hi, rows, cols) {
			mix(&col[lo+j], square/float64(rows))
		}
	})
	total := 0.0
	for _, x := range row {
		total += float64(x)
	}
	byCol := make([]float32, cols)
	for j, x := range col {
		byCol[j] = float32(1 / math.Sqrt(float64(x)))
	}
	byRow, squares := make([]float32, rows), make([]float64, rows)
	pool.For(rows, pool.Grain(cols), func(lo, hi int) {
		update := make([]float32, cols)
		for r := lo; r < hi; r++ {
			f := float64(gscale) / math.Sqrt(float64(row[r])*float64(rows)/total)
			simd.Mul(update, byCol, g[r*cols:][:cols])
			byRow[r], squares[r] = float32(f), f*f*float64(simd.Dot(update, update))
		}
	})
	sum := 0.0
	for _, x := range squares {
		sum += x
	}
	keep, size := o.Keep(blas.SumSquares(p)/float64(len(p)), sum/float64(len(p)))
	pool.For(rows, pool.Grain(cols), func(lo, hi int) {
		update := make([]float32, cols)
		for r := lo; r < hi; r++ {
			x := p[r*cols:][:cols]
			simd.Mul(update, byCol, g[r*cols:][:cols])
			if keep != 1 {
				simd.Scale(x, float32(keep))
			}
			simd.Axpy(float32(-size)*byRow[r], update, x)
		}
	})
}

// adafactorStripe is how many columns are summed at a time: several lines of the cache of each row.
const adafactorStripe = 256

// columnSquares returns the sums of the squares of columns [lo, hi) of g [rows, cols], in float32 over some rows at a time.
func columnSquares(g []float32, lo, hi, rows, cols int) []float64 {
	const some = 64
	sums, part := make([]float64, hi-lo), make([]float32, hi-lo)
	for r := 0; r < rows; r += some {
		clear(part)
		for i := r; i < min(r+some, rows); i++ {
			x := g[i*cols+lo : i*cols+hi]
			simd.MulAdd(1, x, x, part)
		}
		for j, x := range part {
			sums[j] += float64(x)
		}
	}
	return sums
}

// StepWhole makes step t on p, a vector, with gradient g·gscale and the average v of its square, all of one length.
func (o Adafactor) StepWhole(p, g, v []float32, gscale float32, t int) {
	beta, sum := o.Beta2(t), 0.0
	for i, x := range g {
		d := float64(x) * float64(gscale)
		v[i] = float32(beta*float64(v[i]) + (1-beta)*(d*d+AdafactorEps))
		sum += d * d / float64(v[i])
	}
	keep, size := o.Keep(blas.SumSquares(p)/float64(len(p)), sum/float64(len(p)))
	for i, x := range g {
		p[i] = float32(keep*float64(p[i]) - size*float64(x)*float64(gscale)/math.Sqrt(float64(v[i])))
	}
}

// StepRef is the definition of Step, in float64.
func (o Adafactor) StepRef(p, g, row, col []float32, rows, cols int, gscale float32, t int) {
	beta := 1 - math.Pow(float64(t), -o.Rate)
	square := func(i, j int) float64 { return math.Pow(float64(g[i*cols+j])*float64(gscale), 2) + AdafactorEps }
	total := 0.0
	for i := range rows {
		mean := 0.0
		for j := range cols {
			mean += square(i, j) / float64(cols)
		}
		row[i] = float32(beta*float64(row[i]) + (1-beta)*mean)
		total += float64(row[i]) / float64(rows)
	}
	for j := range cols {
		mean := 0.0
		for i := range rows {
			mean += square(i, j) / float64(rows)
		}
		col[j] = float32(beta*float64(col[j]) + (1-beta)*mean)
	}
	update := make([]float64, rows*cols)
	for i := range rows {
		for j := range cols {
			update[i*cols+j] = float64(g[i*cols+j]) * float64(gscale) / math.Sqrt(float64(row[i])/total*float64(col[j]))
		}
	}
	o.applyRef(p, update)
}

// StepWholeRef is the definition of StepWhole, in float64.
func (o Adafactor) StepWholeRef(p, g, v []float32, gscale float32, t int) {
	beta, update := 1-math.Pow(float64(t), -o.Rate), make([]float64, len(p))
	for i := range p {
		d := float64(g[i]) * float64(gscale)
		v[i] = float32(beta*float64(v[i]) + (1-beta)*(d*d+AdafactorEps))
		update[i] = d / math.Sqrt(float64(v[i]))
	}
	o.applyRef(p, update)
}

// applyRef limits an update and makes it.
func (o Adafactor) applyRef(p []float32, update []float64) {
	var squares, updated float64
	for i := range p {
		squares += float64(p[i]) * float64(p[i]) / float64(len(p))
		updated += update[i] * update[i] / float64(len(p))
	}
	lr := o.LR
	if o.Scale {
		lr *= max(AdafactorFloor, math.Sqrt(squares))
	}
	for i := range p {
		x := float64(p[i])
		x -= o.Decay * lr * x
		p[i] = float32(x - lr*update[i]/max(1, math.Sqrt(updated)/o.Threshold))
	}
}
