package sweep

import (
	"sync"
	"time"
)

// forecast says how long the points take that a sweep has yet to make: as long as those of their kind took. Its methods may be
// called from several goroutines.
type forecast struct {
	mu           sync.Mutex
	kinds        []kind // of the points to make; the first is under way
	took         map[kind]spent
	began        time.Time // when the point under way did
	steps, total int       // of its up-training
}

// kind is what points have in common that take about as long.
type kind struct {
	conversion string
	uptrained  bool
}

type spent struct {
	time   time.Duration
	points int
}

func newForecast(points []Point) *forecast {
	f := &forecast{took: map[kind]spent{}}
	for _, p := range points {
		f.kinds = append(f.kinds, p.kind())
	}
	return f
}

// next says that a point begins and, unless it is the first, that the one before is made.
func (f *forecast) next(now time.Time, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !first {
		k := f.kinds[0]
		f.took[k] = spent{f.took[k].time + now.Sub(f.began), f.took[k].points + 1}
		f.kinds = f.kinds[1:]
	}
	f.began, f.steps, f.total = now, 0, 0
}

// step says that one of so many steps of the point's up-training is made.
func (f *forecast) step(total int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.total = f.steps+1, total
}

// left is the time to the end of the last point; ok is false as long as nothing tells.
func (f *forecast) left(now time.Time) (left time.Duration, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	elapsed := now.Sub(f.began)
	for i, k := range f.kinds {
		cost, ok := f.cost(k, elapsed)
		if !ok {
			return 0, false
		}
		if i == 0 {
			cost = max(0, cost-elapsed)
		}
		left += cost
	}
	return left, true
}

// cost is what a point of a kind takes: the mean of those of that kind, or else of those that were up-trained, or not, as it
// is, or else what the point under way will have taken.
func (f *forecast) cost(k kind, elapsed time.Duration) (time.Duration, bool) {
	all := f.took[k]
	if all.points == 0 {
		for other, took := range f.took {
			if other.uptrained == k.uptrained {
				all = spent{all.time + took.time, all.points + took.points}
			}
		}
	}
	switch {
	case all.points > 0:
		return all.time / time.Duration(all.points), true
	case f.kinds[0].uptrained == k.uptrained && f.steps > 0:
		return elapsed / time.Duration(f.steps) * time.Duration(f.total), true
	}
	return 0, false
}
