//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/units"
)

// pool keeps freed memory for reuse by buffers of the same size. All operations are on one stream, so memory can be
// reused immediately.
type pool struct {
	gpu   *cuda.GPU
	free  map[uint64][]uintptr
	sizes map[uintptr]uint64 // of allocated and free memory
	held  uint64             // bytes
}

// MemoryError reports that a GPU's memory is exhausted.
type MemoryError struct {
	GPU               string
	Wanted, Held, All uint64 // in bytes: this request, allocated by this process, and total of the GPU
}

// Error returns a description with the three sizes.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of memory on %s: %s wanted beside %s of its %s", e.GPU,
		units.Bytes(int64(e.Wanted)), units.Bytes(int64(e.Held)), units.Bytes(int64(e.All)))
}

// class rounds a size up, so that similar sizes can share memory.
func class(n uint64) uint64 {
	const small, large = 512, 2 << 20
	if n <= 1<<20 {
		return max((n+small-1)/small, 1) * small
	}
	return (n + large - 1) / large * large
}

func (p *pool) get(n uint64) (uintptr, error) {
	size := class(n)
	if free := p.free[size]; len(free) > 0 {
		at := free[len(free)-1]
		p.free[size] = free[:len(free)-1]
		return at, nil
	}
	at, ok := p.gpu.Alloc(size)
	if !ok && p.gpu.Err() == nil {
		p.release()
		at, ok = p.gpu.Alloc(size)
	}
	if !ok {
		if err := p.gpu.Err(); err != nil {
			return 0, err
		}
		return 0, &MemoryError{p.gpu.Name, size, p.held, p.gpu.Memory}
	}
	p.sizes[at] = size
	p.held += size
	return at, nil
}

func (p *pool) put(at uintptr) {
	size, ok := p.sizes[at]
	if !ok {
		return // a part of a buffer, or not allocated here
	}
	p.free[size] = append(p.free[size], at)
}

// release returns all free memory to the driver.
func (p *pool) release() {
	for size, free := range p.free {
		for _, at := range free {
			p.gpu.Free(at)
			delete(p.sizes, at)
			p.held -= size
		}
	}
	clear(p.free)
}
