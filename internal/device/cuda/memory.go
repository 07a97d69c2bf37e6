//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/units"
)

// pool keeps memory that was given back for others of its size. All work is on one stream, so memory can be used again at once.
type pool struct {
	gpu   *cuda.GPU
	free  map[uint64][]uintptr
	sizes map[uintptr]uint64 // of what was given out or is free
	held  uint64             // bytes
}

// MemoryError says that a GPU's memory does not suffice.
type MemoryError struct {
	GPU               string
	Wanted, Held, All uint64 // bytes: of this request, of this process, and of the GPU
}

// Error says what was asked for.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of memory on %s: %s wanted beside %s of its %s", e.GPU,
		units.Bytes(int64(e.Wanted)), units.Bytes(int64(e.Held)), units.Bytes(int64(e.All)))
}

// class rounds a size up, so that sizes that differ a little share memory.
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
		return // a part of a buffer, or none of ours
	}
	p.free[size] = append(p.free[size], at)
}

// release gives all that is free back to the driver.
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
