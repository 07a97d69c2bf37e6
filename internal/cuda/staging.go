//go:build cuda && linux

package cuda

import (
	"fmt"
	"math"
	"unsafe"
)

// staging is memory from which the GPU copies while the host goes on: pinned, since the driver may wait for a stream before it
// reads other memory. It has two halves, which are filled in turn.
type staging struct {
	at     uintptr
	used   int // bytes of the current half
	half   int
	copied [2]uintptr // events after the last copy from each half; 0 if it is not in use
}

const stagingHalf = 4 << 20

// send copies data to the GPU.
func (s *staging) send(dst uintptr, data []byte, stream uintptr) error {
	if s.at == 0 {
		if err := driverError(cuMemHostAlloc(&s.at, 2*stagingHalf, 0), "cuMemHostAlloc"); err != nil {
			return err
		}
	}
	for len(data) > 0 {
		if s.used == stagingHalf {
			if err := s.turn(stream); err != nil {
				return err
			}
		}
		from := s.at + uintptr(s.half*stagingHalf+s.used)
		n := copy(unsafe.Slice((*byte)(pointer(from)), stagingHalf-s.used), data)
		if err := driverError(cuMemcpyHtoDAsync(dst, pointer(from), uint64(n), stream), fmt.Sprintf("cuMemcpyHtoDAsync of %d bytes", n)); err != nil {
			return err
		}
		s.used = min((s.used+n+15)/16*16, stagingHalf)
		dst, data = dst+uintptr(n), data[n:]
	}
	return nil
}

// turn goes on to the other half once it has been copied.
func (s *staging) turn(stream uintptr) error {
	if s.copied[s.half] == 0 {
		if err := driverError(cuEventCreate(&s.copied[s.half], 0), "cuEventCreate"); err != nil {
			return err
		}
	}
	if err := driverError(cuEventRecord(s.copied[s.half], stream), "cuEventRecord"); err != nil {
		return err
	}
	s.half, s.used = 1-s.half, 0
	if s.copied[s.half] == 0 {
		return nil
	}
	return driverError(cuEventSynchronize(s.copied[s.half]), "cuEventSynchronize")
}

// results are numbers on their way from the GPU, in pinned memory. The places are used in turn.
type results struct {
	at      uintptr
	events  [resultPlaces]uintptr
	waiting [resultPlaces]*result // for the number in a place; nil if it has been read
	next    int
}

const resultPlaces = 1 << 12

// result is a number that Fetch has requested.
type result struct {
	place int
	value float64 // once it has been read
}

// request copies the number at an address to the next place. If that holds a number that nobody has read, it is read first.
func (r *results) request(to *result, src, stream uintptr) error {
	if r.at == 0 {
		if err := driverError(cuMemHostAlloc(&r.at, 8*resultPlaces, 0), "cuMemHostAlloc"); err != nil {
			return err
		}
	}
	to.place = r.next
	r.next = (r.next + 1) % resultPlaces
	if before := r.waiting[to.place]; before != nil {
		if err := r.read(before); err != nil {
			return err
		}
	}
	if r.events[to.place] == 0 {
		if err := driverError(cuEventCreate(&r.events[to.place], 0), "cuEventCreate"); err != nil {
			return err
		}
	}
	if err := driverError(cuMemcpyDtoHAsync(r.address(to.place), src, 8, stream), "cuMemcpyDtoHAsync"); err != nil {
		return err
	}
	r.waiting[to.place] = to
	return driverError(cuEventRecord(r.events[to.place], stream), "cuEventRecord")
}

// read waits for a number unless it has been read.
func (r *results) read(n *result) error {
	if r.waiting[n.place] != n {
		return nil
	}
	if err := driverError(cuEventSynchronize(r.events[n.place]), "cuEventSynchronize"); err != nil {
		return err
	}
	n.value, r.waiting[n.place] = *(*float64)(r.address(n.place)), nil
	return nil
}

func (r *results) address(place int) unsafe.Pointer { return pointer(r.at + uintptr(8*place)) }

// Fetch copies the 64-bit number at an address once the operations before it are complete. It returns a function that waits for
// the number, but not for later operations.
func (g *GPU) Fetch(src uintptr) func() (float64, error) {
	n := new(result)
	g.Do(func() error { return g.results.request(n, src, g.stream) })
	return func() (float64, error) {
		if err := g.Wait(func() error { return g.results.read(n) }); err != nil {
			return math.NaN(), err
		}
		return n.value, nil
	}
}
