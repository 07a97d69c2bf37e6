package kernels

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// worker is a goroutine that helps with jobs. Between the steps of a pass there are some microseconds: a worker that
// slept at once would mostly be waking up, so it looks out for the next job a little.
type worker struct {
	offer  atomic.Pointer[job]
	asleep atomic.Bool
	wake   chan struct{} // holds one: a word too many makes a worker look once more, no more
}

// patience is how often a thread looks before it sleeps: about 10 µs in all.
const patience = 1 << 11

// pause lets other goroutines run every now and then: the one waited for may be behind this one on the same thread.
func pause(i int) {
	if i%64 == 63 {
		runtime.Gosched()
	}
}

var (
	workers atomic.Pointer[[]*worker] // all there are; the slice never changes
	hiring  sync.Mutex
)

func crew() []*worker {
	if all := workers.Load(); all != nil {
		return *all
	}
	return nil
}

// hire starts another worker and returns all.
func hire() []*worker {
	hiring.Lock()
	defer hiring.Unlock()
	w := &worker{wake: make(chan struct{}, 1)}
	all := append(slices.Clone(crew()), w)
	workers.Store(&all)
	go w.serve()
	return all
}

// take offers a worker a job, and reports whether it had no other offer.
func (w *worker) take(j *job) bool {
	if !w.offer.CompareAndSwap(nil, j) {
		return false
	}
	if w.asleep.CompareAndSwap(true, false) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (w *worker) serve() {
	for {
		j := w.next()
		j.work()
		j.close()
	}
}

// next waits for an offer.
func (w *worker) next() *job {
	for {
		for i := range patience {
			if j := w.offer.Load(); j != nil && w.offer.CompareAndSwap(j, nil) {
				return j
			}
			pause(i)
		}
		w.asleep.Store(true)
		if w.offer.Load() == nil {
			<-w.wake
		}
		w.asleep.Store(false)
	}
}
