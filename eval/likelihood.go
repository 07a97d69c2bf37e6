package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"gqa/internal/engine/infer"
)

// Query asks how likely some continuations of one text are.
type Query struct {
	Source        []int32 // what the encoder of an encoder-decoder reads; nil for other models
	Continuations []Continuation
}

// Continuation is the end of a token sequence: IDs[From:]. The tokens before it, at least one, are given. For an encoder-decoder, that is the
// decoder's start token.
type Continuation struct {
	IDs   []int32
	From  int
	After int // number of tokens at the end of IDs that follow the continuation, which an encoder sees; 0 for other models
}

// Likelihood says how a model predicts a continuation.
type Likelihood struct {
	LogP   float64 // sum of the tokens' log-probabilities, in nats
	Greedy bool    // whether each token is the most probable one
}

// LikelihoodOptions control [Likelihoods].
type LikelihoodOptions struct {
	Mask     int32               // the mask token, for encoders
	Progress func(queries int64) // called with the number of queries as they are answered; may be nil
}

// Likelihoods returns the likelihood of each continuation of each query. What the continuations of a query have in common is read
// once, and so is a long beginning that several queries share. Queries of similar length are read together.
//
// A token's probability depends on the tokens before it. In an encoder, it depends on all others: the token is replaced by the mask
// token, in a pass of its own, and the sum of the log-probabilities is the pseudo-log-likelihood (Salazar et al.,
// arXiv 1910.14659).
func Likelihoods(ctx context.Context, m *Model, queries []Query, o LikelihoodOptions) ([][]Likelihood, error) {
	for i, q := range queries {
		if err := m.checkQuery(q); err != nil {
			return nil, fmt.Errorf("query %d: %w", i, err)
		}
	}
	m.Until(ctx)
	defer m.Until(context.Background())
	s := newLikelihoods(ctx, m, queries, o)
	run := s.decode
	if !m.Arch.Causal {
		run = s.unmask
	}
	if err := cmp.Or(run(queries), ctx.Err()); err != nil {
		return nil, err
	}
	for _, likelihoods := range s.all {
		for _, l := range likelihoods {
			if math.IsNaN(l.LogP) || math.IsInf(l.LogP, 0) {
				return nil, errors.New("the model's logits are not finite: it has weights that are not finite numbers, or its activations are too large")
			}
		}
	}
	return s.all, nil
}

// checkQuery returns an error if the model cannot read a query.
func (m *Model) checkQuery(q Query) error {
	encodes := m.Arch.EncoderLayers > 0
	if encodes != (len(q.Source) > 0) {
		return fmt.Errorf("%d tokens for an encoder, of which the model has %d layers", len(q.Source), m.Arch.EncoderLayers)
	}
	err := m.CheckIDs(q.Source)
	for _, c := range q.Continuations {
		last := len(c.IDs) - c.After
		if c.From < 1 || c.From >= last || c.After < 0 || m.Arch.Causal && c.After > 0 {
			return fmt.Errorf("a continuation is tokens %d to %d of %d: want one or more tokens, after at least one", c.From, last, len(c.IDs))
		}
		err = cmp.Or(err, m.CheckIDs(c.IDs), m.checkPass(1, len(c.IDs)))
		if m.Arch.Causal {
			err = cmp.Or(err, m.CheckLength(len(c.IDs)-1), m.CheckMemory("the KV cache", m.cacheBytes(m.keeps(), 1, len(c.IDs))))
		} else {
			err = cmp.Or(err, m.CheckLength(len(c.IDs)))
		}
	}
	return err
}

// likelihoods is their computation in progress.
type likelihoods struct {
	model   *Model
	ctx     context.Context
	o       LikelihoodOptions
	all     [][]Likelihood // by query and continuation
	losses  []float32
	best    []int32
	targets []int32
	rows    []int32
}

func newLikelihoods(ctx context.Context, m *Model, queries []Query, o LikelihoodOptions) *likelihoods {
	s := &likelihoods{model: m, ctx: ctx, o: o, all: make([][]Likelihood, len(queries))}
	for i, q := range queries {
		s.all[i] = make([]Likelihood, len(q.Continuations))
		for j := range s.all[i] {
			s.all[i][j].Greedy = true
		}
	}
	return s
}

func (s *likelihoods) progress(queries int) {
	if s.o.Progress != nil {
		s.o.Progress(int64(queries))
	}
}

// prediction is a token whose probability is a factor of a likelihood.
type prediction struct {
	row    int // of the hidden states that predict it
	target int32
	of     *Likelihood
}

// score adds predictions to their likelihoods.
func (s *likelihoods) score(hidden infer.Mat, all []prediction) error {
	s.rows, s.targets = s.rows[:0], s.targets[:0]
	for _, p := range all {
		s.rows, s.targets = append(s.rows, int32(p.row)), append(s.targets, p.target)
	}
	s.losses, s.best = resized(s.losses, len(all)), resized(s.best, len(all))
	m := s.model
	hidden = m.Select(hidden, s.rows)
	for lo := 0; lo < len(all) && s.ctx.Err() == nil; lo += m.headRows {
		hi := min(lo+m.headRows, len(all))
		logits := m.Head(hidden, lo, hi)
		m.CrossEntropy(s.losses[lo:hi], logits, s.targets[lo:hi])
		m.Argmax(s.best[lo:hi], logits)
	}
	for i, p := range all {
		p.of.LogP -= float64(s.losses[i])
		p.of.Greedy = p.of.Greedy && s.best[i] == p.target
	}
	return cmp.Or(s.ctx.Err(), m.Err())
}

func resized[T any](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n)
	}
	return x[:n]
}
