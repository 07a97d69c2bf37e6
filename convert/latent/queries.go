package latent

import (
	"math"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
)

// factorQueries makes l's queries linear functions of QueryRank numbers: the principal components of what they are multiplied with keys
// for, and then the best combinations of these. It reports whether there are any.
func (s *source) factorQueries(l *Attention) bool {
	stack := newLinear(l.Heads*(l.Nope+l.Rope), l.QNope, l.QRope)
	for r := range l.Heads * l.Nope { // the latent's numbers have the variance one
		addRow(stack, r, math.Sqrt(blas.SumSquares(l.KeyUp.W[r*l.Rank:][:l.Rank])), l.QNope, r)
	}
	for r := range l.Heads * l.Rope { // and so have the two numbers of a plane together
		addRow(stack, l.Heads*l.Nope+r, math.Sqrt(0.5), l.QRope, r)
	}
	l.QueryDown = newLinear(s.o.QueryRank, stack)
	if !s.principal(l.QueryDown, stack, s.m.MeanOf(stack)) {
		return false
	}
	var ok, also bool
	l.QNope, ok = s.read(l.QueryDown, l.QNope)
	l.QRope, also = s.read(l.QueryDown, l.QRope)
	return ok && also
}

// read returns the best approximation of y as a function of x.
func (s *source) read(x, y merge.Linear) (merge.Linear, bool) {
	n, rows := len(x.W)/x.In, len(y.W)/y.In
	w := merge.Linear{W: make([]float32, rows*n), In: n}
	if rows == 0 {
		return w, true
	}
	meanX, meanY := s.m.MeanOf(x), s.m.MeanOf(y)
	mix := s.leastSquares(second(s.gram(x, x), meanX, meanX), second(s.gram(x, y), meanX, meanY), n, ridge)
	if mix == nil {
		return w, false
	}
	transpose(w.W, mix, rows, n, rows)
	return w, true
}
