package configs

// Take reads the weight out of its stored tensor: [out, in] or [dim], a copy.
func (p Param) Take(stored []float32) []float32 {
	out := make([]float32, p.Size())
	p.each(func(value, at int) { out[value] = stored[at] })
	return out
}

// Put writes the weight into its stored tensor.
func (p Param) Put(stored, values []float32) {
	p.each(func(value, at int) { stored[at] = values[value] })
}

// each pairs the weight's elements with their places in the stored tensor.
func (p Param) each(pair func(value, at int)) {
	cols := 1
	if len(p.Shape) == 2 {
		cols = p.Shape[1]
	}
	for r := range p.Shape[0] {
		row := r
		if p.Rows != nil {
			row = p.Rows[r]
		}
		for c := range cols {
			at := row*cols + c
			if p.Transposed && len(p.Stored) == 2 {
				at = c*p.Stored[1] + row
			}
			pair(r*cols+c, at)
		}
	}
}
