package eval

import (
	"cmp"
	"slices"

	"gqa/internal/ops"
)

// lone is a continuation that is read with all that precedes it, without a cache.
type lone struct {
	Continuation
	of   *Likelihood
	last bool // of its query
}

// decodeAlone answers queries to a decoder without an encoder by passes that share nothing. A pass has at most passTokens tokens, unless it
// is over one continuation.
func (s *likelihoods) decodeAlone(queries []Query, passTokens int) error {
	var all []lone
	for i, q := range queries {
		for j, c := range q.Continuations {
			all = append(all, lone{c, &s.all[i][j], j == len(q.Continuations)-1})
		}
	}
	slices.SortStableFunc(all, func(a, b lone) int { return cmp.Compare(len(b.IDs), len(a.IDs)) })
	for len(all) > 0 {
		n := min(len(all), max(1, passTokens/len(all[0].IDs)))
		if err := s.passAlone(all[:n]); err != nil {
			return err
		}
		for _, c := range all[:n] {
			if c.last {
				s.progress(1)
			}
		}
		all = all[n:]
	}
	return nil
}

// passAlone scores continuations. The first is the longest.
func (s *likelihoods) passAlone(all []lone) error {
	width := len(all[0].IDs) - 1
	var seqs [][]int32
	var predictions []prediction
	for i, c := range all {
		seqs = append(seqs, padded(c.IDs[:len(c.IDs)-1], width, 0))
		for t := c.From; t < len(c.IDs); t++ {
			predictions = append(predictions, prediction{i*width + t - 1, c.IDs[t], c.of})
		}
	}
	return s.score(s.model.Hidden(ops.NewBatch(seqs...)), predictions)
}
