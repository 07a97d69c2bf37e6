//go:build cuda && linux

package cuda

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// lazyStream stands for a stream of the driver that copies as late as possible: when an event after the copy is waited for.
type lazyStream struct {
	queue  []func()
	events map[uintptr]int // length of the queue when it was recorded
	done   int             // operations that are complete
	memory [][]byte        // pinned
}

// newLazyStream replaces the driver's copies and events until the test ends.
func newLazyStream(t *testing.T) *lazyStream {
	s := &lazyStream{events: map[uintptr]int{}}
	alloc, create, record, wait, up, down := cuMemHostAlloc, cuEventCreate, cuEventRecord, cuEventSynchronize, cuMemcpyHtoDAsync, cuMemcpyDtoHAsync
	t.Cleanup(func() {
		cuMemHostAlloc, cuEventCreate, cuEventRecord, cuEventSynchronize, cuMemcpyHtoDAsync, cuMemcpyDtoHAsync = alloc, create, record, wait, up, down
	})
	cuMemHostAlloc = func(at *uintptr, n uint64, _ uint32) int32 {
		s.memory = append(s.memory, make([]byte, n))
		*at = uintptr(unsafe.Pointer(&s.memory[len(s.memory)-1][0]))
		return 0
	}
	cuEventCreate = func(event *uintptr, _ uint32) int32 {
		*event = uintptr(len(s.events) + 1)
		s.events[*event] = 0
		return 0
	}
	cuEventRecord = func(event, _ uintptr) int32 { s.events[event] = len(s.queue); return 0 }
	cuEventSynchronize = func(event uintptr) int32 { s.run(s.events[event]); return 0 }
	copies := func(dst, src unsafe.Pointer, n uint64) int32 {
		s.queue = append(s.queue, func() { copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n)) })
		return 0
	}
	cuMemcpyHtoDAsync = func(dst uintptr, src unsafe.Pointer, n uint64, _ uintptr) int32 { return copies(pointer(dst), src, n) }
	cuMemcpyDtoHAsync = func(dst unsafe.Pointer, src uintptr, n uint64, _ uintptr) int32 { return copies(dst, pointer(src), n) }
	return s
}

func (s *lazyStream) run(until int) {
	for ; s.done < until; s.done++ {
		s.queue[s.done]()
	}
}

// What is sent arrives although the memory that it is sent from is used again and again.
func TestStaging(t *testing.T) {
	stream := newLazyStream(t)
	r := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 5*stagingHalf+999)
	for i := range want {
		want[i] = byte(r.Uint32())
	}
	got := make([]byte, len(want))
	var s staging
	for at := 0; at < len(want); {
		n := min(r.IntN(stagingHalf/2), len(want)-at)
		if at > stagingHalf && at < 2*stagingHalf {
			n = min(2*stagingHalf+17, len(want)-at) // more than both halves
		}
		if err := s.send(uintptr(unsafe.Pointer(&got[at:][0])), want[at:at+n], 0); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	stream.run(len(stream.queue))
	if !bytes.Equal(got, want) {
		t.Error("other bytes arrive")
	}
}

// Numbers can be read in any order and any number of times, also after more of them were requested than there are places.
func TestFetch(t *testing.T) {
	stream := newLazyStream(t)
	g := &GPU{work: make(chan func(), 1)}
	defer close(g.work)
	go func() {
		for call := range g.work {
			call()
		}
	}()
	numbers := make([]float64, 2*resultPlaces+9)
	var reads []func() (float64, error)
	for i := range numbers {
		numbers[i] = float64(i) + 0.5
		reads = append(reads, g.Fetch(uintptr(unsafe.Pointer(&numbers[i]))))
	}
	for _, i := range slices.Concat([]int{len(reads) - 1}, rand.New(rand.NewPCG(1, 2)).Perm(len(reads)), []int{0, 1, 0}) {
		if got, err := reads[i](); got != numbers[i] || err != nil {
			t.Fatalf("number %d is %v, want %v; %v", i, got, numbers[i], err)
		}
	}
	if len(stream.memory) != 1 {
		t.Errorf("%d pieces of pinned memory", len(stream.memory))
	}
}
