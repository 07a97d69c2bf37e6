package kernels

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
// free, it does what the idle ones do not take.
func For(n, grain int, f func(lo, hi int)) { run(n, grain, blockFunc(f)) }

// task is what run does block by block; kernels that must not allocate pass a pooled pointer.
type task interface{ block(lo, hi int) }

type blockFunc func(lo, hi int)

func (f blockFunc) block(lo, hi int) { f(lo, hi) }

func run(n, grain int, t task) { runOn(Threads(), n, grain, t) }

// runOn is run for so many threads. Thread number i begins at block blocks·i/threads, and a thread takes blocks in their order.
func runOn(threads, n, grain int, t task) {
	grain = max(grain, 1)
	helpers := min(threads, ceilDiv(n, grain)) - 1
	if helpers <= 0 {
		for lo := 0; lo < n; lo += grain {
			t.block(lo, min(lo+grain, n))
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

// job is one call of run, shared by the caller and its helpers.
type job struct {
	task     task
	n, grain int
	shares   []share
	open     atomic.Int32 // offers that were not yet taken back or done
	offers   sync.WaitGroup
}

// share is items that lie side by side, of one thread until others have nothing left: memory that is read in order is
// faster, and what a kernel asks for ahead is what the same thread needs next.
type share struct {
	next atomic.Int64
	end  int64
	_    [48]byte // threads do not share a cache line
}

var jobs = sync.Pool{New: func() any { return new(job) }}

// enlist offers the job to so many workers, to idle ones and to those about to be, starting new ones while there are fewer
// than were asked for.
func (j *job) enlist(helpers int) {
	for i := 0; helpers > 0; i++ {
		all := pool()
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

// divide makes shares of whole blocks for so many threads.
func (j *job) divide(threads int) {
	if cap(j.shares) < threads {
		j.shares = make([]share, threads)
	}
	j.shares = j.shares[:threads]
	blocks := ceilDiv(j.n, j.grain)
	for i := range j.shares {
		j.shares[i].next.Store(int64(blocks * i / threads * j.grain))
		j.shares[i].end = int64(min(j.n, blocks*(i+1)/threads*j.grain))
	}
}

// work takes the blocks of share first, then what others have left of theirs. A thread begins with the same share from job to
// job: what it has just written is in its cache.
func (j *job) work(first int) {
	for i := range j.shares {
		s := &j.shares[(first+i)%len(j.shares)]
		for lo := s.take(j.grain); lo < s.end; lo = s.take(j.grain) {
			j.task.block(int(lo), int(min(lo+int64(j.grain), s.end)))
		}
	}
}

func (s *share) take(n int) (from int64) { return s.next.Add(int64(n)) - int64(n) }

// finish takes back the offers that no worker took up, and waits for the others.
func (j *job) finish() {
	for _, w := range pool() {
		if w.offer.CompareAndSwap(j, nil) {
			j.close()
		}
	}
	for s := (spin{}); j.open.Load() > 0 && s.again(); {
	}
	j.offers.Wait()
}
