package pool

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestForCoversOnce(t *testing.T) {
	defer SetThreads(0)
	for _, threads := range []int{1, 2, 5} {
		SetThreads(threads)
		for _, n := range []int{0, 1, 7, 64, 1000} {
			for _, grain := range []int{0, 1, 3, 64, 5000} {
				seen := make([]atomic.Int32, n)
				For(n, grain, func(lo, hi int) {
					if g := max(grain, 1); lo%g != 0 || hi != min(lo+g, n) {
						t.Errorf("n %d, grain %d: block [%d,%d)", n, grain, lo, hi)
					}
					for i := lo; i < hi; i++ {
						seen[i].Add(1)
					}
				})
				for i := range seen {
					if c := seen[i].Load(); c != 1 {
						t.Fatalf("threads %d, n %d, grain %d: item %d seen %d times", threads, n, grain, i, c)
					}
				}
			}
		}
	}
}

func TestForNestedAndConcurrent(t *testing.T) {
	defer SetThreads(0)
	SetThreads(3)
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				For(6, 1, func(lo, hi int) {
					For(10, 2, func(lo, hi int) { total.Add(int64(hi - lo)) })
				})
			}
		})
	}
	wg.Wait()
	if got := total.Load(); got != 8*50*60 {
		t.Fatalf("items done: %d, want %d", got, 8*50*60)
	}
}

func TestForInlineAllocatesNothing(t *testing.T) {
	var sum int
	f := func(lo, hi int) { sum += hi - lo }
	if n := testing.AllocsPerRun(100, func() { For(100, 1000, f) }); n != 0 {
		t.Errorf("a call of For that runs inline allocates %v times", n)
	}
}

func TestThreads(t *testing.T) {
	defer SetThreads(0)
	SetThreads(7)
	if Threads() != 7 {
		t.Errorf("Threads() = %d, want 7", Threads())
	}
	SetThreads(-1)
	if Threads() < 1 {
		t.Errorf("Threads() = %d after a reset", Threads())
	}
}
