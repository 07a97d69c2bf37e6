package eval

// NewFigure returns the mean of the values of items, which all count the same. Better is "lower" or "higher".
func NewFigure(values []float64, unit, better string) Figure {
	var s series
	for _, x := range values {
		s.add(x, 1)
	}
	return s.figure(unit, better)
}
