package kernels

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// worker is a goroutine that helps with jobs. Between the steps of a pass there are some microseconds: a worker that
// slept at once would mostly be waking up, so it looks out for the next job a little.
type worker struct {
	offer  atomic.Pointer[job]
	asleep atomic.Bool
	number int           // from 1
	wake   chan struct{} // holds one: a word too many makes a worker look once more, no more
}

// patience is how long a thread looks out before it sleeps: less than waking it takes on a virtual machine.
const patience = 20 * time.Microsecond

// vigil is one thread's looking out.
type vigil struct {
	looks int
	from  time.Time
}

// goesOn reports whether the thread should look again. Every now and then it lets other goroutines run: the one waited for
// may be behind this one on the same thread.
func (v *vigil) goesOn() bool {
	v.looks++
	if v.looks%64 != 0 {
		return true
	}
	runtime.Gosched()
	if v.from.IsZero() {
		v.from = time.Now()
	}
	return time.Since(v.from) < patience
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
	w := &worker{wake: make(chan struct{}, 1), number: len(crew()) + 1}
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
		j.work(w.number)
		j.close()
	}
}

// next waits for an offer.
func (w *worker) next() *job {
	for {
		for v := (vigil{}); v.goesOn(); {
			if j := w.offer.Load(); j != nil && w.offer.CompareAndSwap(j, nil) {
				return j
			}
		}
		w.asleep.Store(true)
		if w.offer.Load() == nil {
			<-w.wake
		}
		w.asleep.Store(false)
	}
}
