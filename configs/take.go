package configs

// Take returns a copy of the weight, [out, in] or [dim], out of its stored tensor.
func (p Param) Take(stored []float32) []float32 {
	values := make([]float32, p.Size())
	p.runs(func(value, at, n int) { copy(values[value:value+n], stored[at:at+n]) })
	return values
}

// Put writes the weight into its stored tensor.
func (p Param) Put(stored, values []float32) {
	p.runs(func(value, at, n int) { copy(stored[at:at+n], values[value:value+n]) })
}

// runs calls pair for runs of n elements that cover the weight: value is the run's position in the weight, at its
// position in the stored tensor.
func (p Param) runs(pair func(value, at, n int)) {
	rows, cols := p.Shape[0], 1
	if len(p.Shape) == 2 {
		cols = p.Shape[1]
	}
	row := func(r int) int { // position of row r among the stored rows
		if p.Rows == nil {
			return r
		}
		return p.Rows[r]
	}
	if !p.Transposed || len(p.Stored) != 2 {
		for r := range rows {
			pair(r*cols, row(r)*cols, cols)
		}
		return
	}
	const strip = 16 // rows per strip: this many cache lines are written while stored rows are read sequentially
	for first := 0; first < rows; first += strip {
		for c := range cols {
			for r := first; r < min(first+strip, rows); r++ {
				pair(r*cols+c, c*p.Stored[1]+row(r), 1)
			}
		}
	}
}
