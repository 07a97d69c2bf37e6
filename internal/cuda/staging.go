//go:build cuda && linux

package cuda

import (
	"fmt"
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
