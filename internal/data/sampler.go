package data

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"sync"
)

// Windows returns the number of non-overlapping windows of n IDs in ids. It is an error if there are none.
func Windows(ids []int32, n int) (int, error) {
	switch {
	case n < 1:
		return 0, fmt.Errorf("window is %d tokens: expected at least 1", n)
	case len(ids) < n:
		return 0, fmt.Errorf("corpus has %d tokens, shorter than one window of %d: use more text or a shorter window", len(ids), n)
	}
	return len(ids) / n, nil
}

// FirstWindows returns the first non-overlapping windows of n IDs, at most limit of them unless limit is 0.
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

// Sampler draws training batches from one corpus or a mixture. In each epoch of a corpus every window occurs once, in a random order and
// with a random offset of the first window, both the epoch's own. A Sampler is safe for concurrent use.
type Sampler struct {
	corpora []*series
	turns   []turn // which corpus each window of a period comes from; nil if there is only one
	counts  []int  // number of windows of each corpus in a period
}

// turn is the place of a window in a period: the nth of its corpus.
type turn struct{ corpus, nth int }

// Component is a corpus of a mixture.
type Component struct {
	*Tokens
	Weight float64 // its part of the windows, relative to the other weights
}

// NewSampler returns a sampler of windows of window IDs. It is an error if ids is shorter than one window.
func NewSampler(ids []int32, window int, seed uint64) (*Sampler, error) {
	return NewMixture([]Component{{&Tokens{IDs: ids}, 1}}, window, seed)
}

// period is the number of windows in which the corpora of a mixture have their shares exactly, up to rounding.
const period = 4096

// NewMixture returns a sampler that draws from several corpora by weight. At any time, the number of windows drawn from one differs by
// less than the number of corpora from its share. It is an error if a corpus is shorter than a window or has no share in a period.
func NewMixture(all []Component, window int, seed uint64) (*Sampler, error) {
	s := &Sampler{counts: make([]int, len(all))}
	sum := 0.0
	for i, c := range all {
		n, err := Windows(c.IDs, window)
		if err != nil && len(all) > 1 {
			err = fmt.Errorf("%s: %w", c.Name, err)
		}
		if err != nil {
			return nil, err
		}
		const odd = 0x9e3779b97f4a7c15 // corpora of equal length have different orders
		s.corpora = append(s.corpora, &series{Tokens: c.Tokens, window: window, windows: n, seed: seed + uint64(i)*odd})
		sum += c.Weight
	}
	if len(all) == 1 {
		return s, nil
	}
	for n := range period {
		next, most := 0, math.Inf(-1)
		for i, c := range all {
			if behind := c.Weight/sum*float64(n+1) - float64(s.counts[i]); behind > most {
				next, most = i, behind
			}
		}
		s.turns = append(s.turns, turn{next, s.counts[next]})
		s.counts[next]++
	}
	for i, c := range all {
		if s.counts[i] == 0 {
			return nil, fmt.Errorf("%s: weight %g of %g is less than one window in %d", c.Name, c.Weight, sum, period)
		}
	}
	return s, nil
}

// Batch returns the size windows of step, counted from 0, as subslices of the corpora's IDs. They depend only on the corpora, the seed,
// step and size, so that a run can resume at any step without saved state. The caller must then check Err.
func (s *Sampler) Batch(step, size int) [][]int32 { return s.Share(step, size, 0, 1) }

// Share returns the windows of Batch(step, size) that belong to one of world processes: consecutive ones, so that the shares of rank 0, 1
// … make up the batch. Sizes differ by at most one.
func (s *Sampler) Share(step, size, rank, world int) [][]int32 {
	from, to := rank*size/world, (rank+1)*size/world
	batch := make([][]int32, 0, to-from)
	for i := from; i < to; i++ {
		batch = append(batch, s.draw(step*size+i))
	}
	return batch
}

// Err returns an error if something that was drawn is damaged, and must not be used.
func (s *Sampler) Err() error {
	for _, c := range s.corpora {
		if err := c.Err(); err != nil {
			return err
		}
	}
	return nil
}

// draw returns the nth window.
func (s *Sampler) draw(n int) []int32 {
	if s.turns == nil {
		return s.corpora[0].draw(n)
	}
	t := s.turns[n%period]
	return s.corpora[t.corpus].draw(n/period*s.counts[t.corpus] + t.nth)
}

// series draws the windows of one corpus.
type series struct {
	*Tokens
	window  int
	windows int // in an epoch
	seed    uint64

	mu    sync.Mutex
	epoch epoch // most recently used epoch
}

// epoch is the order of the windows and the offset of the first one.
type epoch struct {
	number int
	order  func(int) int
	phase  int
}

// draw returns the nth window, counted over all epochs.
func (s *series) draw(n int) []int32 {
	e := s.at(n / s.windows)
	start := e.phase + e.order(n%s.windows)*s.window
	return s.Read(start, start+s.window)
}

func (s *series) at(number int) epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch.order == nil || s.epoch.number != number {
		r := rand.New(rand.NewPCG(s.seed, uint64(number)))
		phase := r.IntN(len(s.IDs) - s.windows*s.window + 1)
		s.epoch = epoch{number, shuffled(r, s.windows), phase}
	}
	return s.epoch
}

// mostListed is how many windows of an epoch are listed in their order: a list of more would take too much memory.
var mostListed = 1 << 24

// shuffled returns a random permutation of [0,n).
func shuffled(r *rand.Rand, n int) func(int) int {
	if n <= mostListed {
		order := r.Perm(n)
		return func(i int) int { return order[i] }
	}
	return feistel(r, uint64(n))
}

// feistel returns a permutation of [0,n) that takes no memory: a Feistel cipher on the next even number of bits, applied until the result
// is below n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
func feistel(r *rand.Rand, n uint64) func(int) int {
	half := (bits.Len64(n-1) + 1) / 2
	mask := uint64(1)<<half - 1
	var keys [4]uint64
	for i := range keys {
		keys[i] = r.Uint64()
	}
	return func(i int) int {
		x := uint64(i)
		for {
			left, right := x>>half, x&mask
			for _, key := range keys {
				mixed := (right ^ key) * 0xff51afd7ed558ccd // a multiplier of MurmurHash3
				mixed ^= mixed >> 32
				left, right = right, left^(mixed*0xc4ceb9fe1a85ec53>>40)&mask
			}
			if x = left<<half | right; x < n {
				return int(x)
			}
		}
	}
}
