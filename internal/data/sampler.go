package data

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// Windows returns the number of windows of n ids in ids that do not overlap. None
// is an error.
func Windows(ids []int32, n int) (int, error) {
	switch {
	case n < 1:
		return 0, fmt.Errorf("window is %d tokens: expected at least 1", n)
	case len(ids) < n:
		return 0, fmt.Errorf("corpus has %d tokens, shorter than one window of %d: use more text or a shorter window", len(ids), n)
	}
	return len(ids) / n, nil
}

// FirstWindows returns the first windows of n ids that do not overlap, at most limit of them unless it is 0.
func FirstWindows(ids []int32, n, limit int) ([][]int32, error) {
	count, err := Windows(ids, n)
	if err != nil {
		return nil, err
	}
	if limit > 0 {
		count = min(count, limit)
	}
	windows := make([][]int32, count)
	for i := range windows {
		windows[i] = ids[i*n : (i+1)*n]
	}
	return windows, nil
}

// Sampler draws the batches of an up-training: in each epoch every window once,
// in an order and from a first token of that epoch's own. It is safe for
// concurrent use.
type Sampler struct {
	ids     []int32
	window  int
	windows int // in an epoch
	seed    uint64

	mu    sync.Mutex
	epoch epoch // the last one drawn from
}

// epoch is the order of the windows and the token that the first one starts at.
type epoch struct {
	number int
	order  []int
	phase  int
}

// NewSampler samples windows of window ids. Ids shorter than one window are an
// error.
func NewSampler(ids []int32, window int, seed uint64) (*Sampler, error) {
	n, err := Windows(ids, window)
	if err != nil {
		return nil, err
	}
	return &Sampler{ids: ids, window: window, windows: n, seed: seed}, nil
}

// Batch returns the size windows of step, counted from 0, each a part of the ids
// that the sampler was made with. They depend on the seed, step and size alone,
// so a run resumes at any step without state.
func (s *Sampler) Batch(step, size int) [][]int32 {
	batch := make([][]int32, size)
	for i := range batch {
		batch[i] = s.draw(step*size + i)
	}
	return batch
}

// draw is the nth window of all epochs.
func (s *Sampler) draw(n int) []int32 {
	e := s.at(n / s.windows)
	start := e.phase + e.order[n%s.windows]*s.window
	return s.ids[start : start+s.window : start+s.window]
}

func (s *Sampler) at(number int) epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch.order == nil || s.epoch.number != number {
		r := rand.New(rand.NewPCG(s.seed, uint64(number)))
		phase := r.IntN(len(s.ids) - s.windows*s.window + 1)
		s.epoch = epoch{number, r.Perm(s.windows), phase}
	}
	return s.epoch
}
