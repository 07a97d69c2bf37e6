// Package pool divides work among threads: the caller and a pool of workers that wait for the next job.
//
// Work is cut into blocks whose borders depend on sizes alone, so results do not depend on the number of threads.
package pool

import (
	"runtime"
	"sync"
	"sync/atomic"
)

var threads atomic.Int32 // 0: GOMAXPROCS

// Threads returns how many threads one call of For may use.
func Threads() int {
	if n := threads.Load(); n > 0 {
		return int(n)
	}
	return runtime.GOMAXPROCS(0)
}

// SetThreads limits the threads of one call of For. A number below 1 resets to the default, GOMAXPROCS.
func SetThreads(n int) { threads.Store(int32(max(n, 0))) }

// For calls f for the blocks [0,grain), [grain,2·grain) … of [0,n), several at a time if Threads allows. The borders do
// not depend on the number of threads. Calls may be nested and concurrent: a call never waits for a worker to become
// free, but computes what idle workers do not take.
func For(n, grain int, f func(lo, hi int)) { Run(n, grain, blockFunc(f)) }

// Task is what Run computes block by block. Unlike a function, a pointer to one from a sync.Pool is passed without an allocation.
type Task interface {
	Block(lo, hi int) // computes items [lo,hi)
}

type blockFunc func(lo, hi int)

func (f blockFunc) Block(lo, hi int) { f(lo, hi) }

// Run is For for a task.
func Run(n, grain int, t Task) { RunOn(Threads(), n, grain, t) }

// RunOn is Run on a number of threads. Thread i begins at block blocks·i/threads, and each thread takes blocks in order.
func RunOn(threads, n, grain int, t Task) {
	grain = max(grain, 1)
	helpers := min(threads, CeilDiv(n, grain)) - 1
	if helpers <= 0 {
		for lo := 0; lo < n; lo += grain {
			t.Block(lo, min(lo+grain, n))
		}
		return
	}
	j := jobs.Get().(*job)
	j.task, j.n, j.grain = t, n, grain
	j.divide(helpers + 1)
	j.enlist(helpers)
	j.work(0)
	j.finish()
	j.task = nil
	jobs.Put(j)
}

// job is one call of Run, shared by the caller and its helpers.
type job struct {
	task     Task
	n, grain int
	shares   []share
	open     atomic.Int32 // offers that were not yet taken back or done
	offers   sync.WaitGroup
}

// share is a range of items that one thread computes until others have nothing left to do: memory that is read in order is
// faster, and what a kernel prefetches is what the same thread needs next.
type share struct {
	next atomic.Int64
	end  int64
	_    [48]byte // threads do not share a cache line
}

var jobs = sync.Pool{New: func() any { return new(job) }}

// enlist offers the job to that many workers that have no other offer. It starts new ones while there are fewer than Threads
// allows.
func (j *job) enlist(helpers int) {
	for i := 0; helpers > 0; i++ {
		all := all()
		if i == len(all) {
			if len(all) >= Threads()-1 {
				return
			}
			all = startWorker()
		}
		if all[i].offer.Load() != nil {
			continue
		}
		j.open.Add(1)
		j.offers.Add(1)
		if !all[i].take(j) {
			j.close()
			continue
		}
		helpers--
	}
}

func (j *job) close() {
	j.open.Add(-1)
	j.offers.Done()
}

// divide makes a share of whole blocks for each thread.
func (j *job) divide(threads int) {
	if cap(j.shares) < threads {
		j.shares = make([]share, threads)
	}
	j.shares = j.shares[:threads]
	blocks := CeilDiv(j.n, j.grain)
	for i := range j.shares {
		j.shares[i].next.Store(int64(blocks * i / threads * j.grain))
		j.shares[i].end = int64(min(j.n, blocks*(i+1)/threads*j.grain))
	}
}

// work takes the blocks of the first share, then what others have left of theirs. A thread begins with the same share in every
// job: what it has just written is in its cache.
func (j *job) work(first int) {
	for i := range j.shares {
		s := &j.shares[(first+i)%len(j.shares)]
		for lo := s.take(j.grain); lo < s.end; lo = s.take(j.grain) {
			j.task.Block(int(lo), int(min(lo+int64(j.grain), s.end)))
		}
	}
}

func (s *share) take(n int) (from int64) { return s.next.Add(int64(n)) - int64(n) }

// finish takes back the offers that no worker took up, and waits for the others.
func (j *job) finish() {
	for _, w := range all() {
		if w.offer.CompareAndSwap(j, nil) {
			j.close()
		}
	}
	for s := (spin{}); j.open.Load() > 0 && s.again(); {
	}
	j.offers.Wait()
}
