package sweep

import (
	"sync"
	"time"
)

// forecast estimates the time for a sweep's remaining points from the time that points of the same kind took. Its methods
// may be called concurrently.
type forecast struct {
	mu           sync.Mutex
	kinds        []kind // of the remaining points; the first is in progress
	took         map[kind]spent
	began        time.Time // start of the point in progress
	steps, total int       // of its up-training
}

// kind is what points that take about the same time have in common.
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

// next records that a point begins and, unless it is the first, that the previous one is complete.
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

// step records one of total steps of the point's up-training.
func (f *forecast) step(total int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.total = f.steps+1, total
}

// left returns the time to the end of the last point; ok is false as long as there is no basis for an estimate.
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

// cost estimates the time for a point of a kind: the mean over points of that kind; if there are none, over those that
// are also up-trained, or also not; if there are none either, the estimated total time of the point in progress.
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
