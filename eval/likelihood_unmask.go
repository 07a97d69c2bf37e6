package eval

import (
	"cmp"
	"slices"

	"gqa/internal/ops"
)

// masked is a sequence in which one token is replaced by the mask token.
type masked struct {
	ids   []int32
	at    int // of the token
	of    *Likelihood
	query int
}

// unmask answers queries to an encoder.
func (s *likelihoods) unmask(queries []Query) error {
	var all []masked
	for i, q := range queries {
		for j, c := range q.Continuations {
			for t := c.From; t < len(c.IDs)-c.After; t++ {
				all = append(all, masked{c.IDs, t, &s.all[i][j], i})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b masked) int { return cmp.Compare(len(b.ids), len(a.ids)) })
	left := make([]int, len(queries)) // sequences of each query
	for _, m := range all {
		left[m.query]++
	}
	for len(all) > 0 {
		n := min(len(all), max(1, scoreRows/len(all[0].ids)))
		if err := s.unmaskBatch(all[:n]); err != nil {
			return err
		}
		for _, m := range all[:n] {
			if left[m.query]--; left[m.query] == 0 {
				s.progress(1)
			}
		}
		all = all[n:]
	}
	return nil
}

// unmaskBatch scores masked tokens. The first sequence is the longest.
func (s *likelihoods) unmaskBatch(all []masked) error {
	width := len(all[0].ids)
	var seqs [][]int32
	var lens []int
	var predictions []prediction
	for i, m := range all {
		ids := padded(m.ids, width, s.model.Arch.PadToken)
		ids[m.at] = s.o.Mask
		seqs, lens = append(seqs, ids), append(lens, len(m.ids))
		predictions = append(predictions, prediction{i*width + m.at, m.ids[m.at], m.of})
	}
	b := ops.NewBatch(seqs...)
	b.Lens = lens
	return s.score(s.model.Hidden(b), predictions)
}
