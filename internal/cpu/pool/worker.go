package pool

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// worker is a goroutine that helps with jobs. The steps of a pass are microseconds apart: a worker that slept at once would spend
// its time waking up, so it first spins for a while.
type worker struct {
	offer  atomic.Pointer[job]
	asleep atomic.Bool
	number int           // from 1
	wake   chan struct{} // holds one: a wake-up too many only makes a worker look once more
}

// spinTime is how long a thread spins before it sleeps: less than it takes to wake it on a virtual machine.
const spinTime = 20 * time.Microsecond

// spin counts how often a waiting thread has looked.
type spin struct {
	looks int
	from  time.Time
}

// again reports whether the thread should look again. Now and then it yields: the goroutine that it waits for may be queued
// behind it on the same thread.
func (s *spin) again() bool {
	s.looks++
	if s.looks%64 != 0 {
		return true
	}
	runtime.Gosched()
	if s.from.IsZero() {
		s.from = time.Now()
	}
	return time.Since(s.from) < spinTime
}

// WaitAtLeast returns once v is n or more. It spins, and after a while sleeps between looks.
func WaitAtLeast(v *atomic.Int32, n int32) {
	for s := (spin{}); v.Load() < n; {
		if !s.again() {
			time.Sleep(spinTime)
		}
	}
}

var (
	workers  atomic.Pointer[[]*worker] // all of them; a slice is replaced, never changed
	starting sync.Mutex
)

func all() []*worker {
	if all := workers.Load(); all != nil {
		return *all
	}
	return nil
}

// startWorker starts another worker and returns all workers.
func startWorker() []*worker {
	starting.Lock()
	defer starting.Unlock()
	w := &worker{wake: make(chan struct{}, 1), number: len(all()) + 1}
	all := append(slices.Clone(all()), w)
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
		for s := (spin{}); s.again(); {
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
