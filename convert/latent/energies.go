package latent

import (
	"context"
	"errors"

	"gqa/convert/merge"
)

// Energies returns, for the first numbers of a latent beside o.Planes rotary planes, how much each adds to what is kept of a's keys and
// values, in decreasing order, and how much there is beside the planes in all: squared errors as [Convert] weighs them. There are at most
// `most` numbers.
func Energies(ctx context.Context, a *merge.Attention, m *merge.Moment, o Options, most int) (each []float64, total float64, err error) {
	s := newSource(ctx, a, m, o)
	shared := s.choosePlanes()
	stack, mean := s.weighted(s.rest(shared, s.rows(shared)))
	g, n := s.moments(stack, mean), len(stack.W)/stack.In
	s.o.Planes = len(o.InvFreq) * a.KVHeads
	total = max(totalGain(s.choosePlanes())-totalGain(shared), 0) // what only other planes would keep
	for i := range n {
		total += float64(g[i*n+i])
	}
	_, values, ok := merge.Top(ctx, g, n, min(most, n))
	if !ok {
		return nil, 0, errors.Join(ctx.Err(), errors.New("the keys and values have no eigenvalues: weights or activations are too large"))
	}
	for i := range values { // the largest comes last
		each = append(each, max(values[len(values)-1-i], 0))
	}
	return each, total, nil
}
