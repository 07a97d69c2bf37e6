//go:build cuda && linux

package cuda

import (
	"errors"
	"maps"
	"slices"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// pool keeps freed memory for reuse by buffers of the same size. All operations are on one stream, so memory can be
// reused immediately.
type pool struct {
	gpu   *cuda.GPU
	free  map[uint64][]uintptr
	sizes map[uintptr]uint64 // of allocated and free memory
	held  uint64             // bytes

	// While operations are recorded, or nil:
	spare     map[uint64][]uintptr // memory that only they use
	constants map[uintptr]bool     // memory that none of them may overwrite
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
	if at := take(p.spare, class(n)); at != 0 {
		return at, nil
	}
	return p.getShared(class(n))
}

// getConstant is get for memory that is written when it is requested. Recorded operations do not write it again.
func (p *pool) getConstant(n uint64) (uintptr, error) {
	if p.constants == nil {
		return p.get(n)
	}
	at, err := p.getShared(class(n))
	if err == nil {
		p.constants[at] = true
	}
	return at, err
}

// take removes memory of a size; 0 if there is none.
func take(from map[uint64][]uintptr, size uint64) uintptr {
	free := from[size]
	if len(free) == 0 {
		return 0
	}
	at := free[len(free)-1]
	from[size] = free[:len(free)-1]
	return at
}

func (p *pool) getShared(size uint64) (uintptr, error) {
	if at := take(p.free, size); at != 0 {
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
		return 0, &device.MemoryError{Device: p.gpu.Name, Wanted: size, Held: p.held, All: p.gpu.Memory}
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
	switch {
	case p.constants[at]:
	case p.spare != nil:
		p.spare[size] = append(p.spare[size], at)
	default:
		p.free[size] = append(p.free[size], at)
	}
}

// record calls f and returns the memory that it freed, which nothing else may use while what f requested may be repeated.
func (p *pool) record(f func()) (kept []uintptr) {
	p.spare, p.constants = map[uint64][]uintptr{}, map[uintptr]bool{}
	f()
	for _, all := range p.spare {
		kept = append(kept, all...)
	}
	kept = slices.AppendSeq(kept, maps.Keys(p.constants))
	p.spare, p.constants = nil, nil
	return kept
}

// idle returns the bytes of memory that is not in use.
func (p *pool) idle() (n uint64) {
	for size, free := range p.free {
		n += size * uint64(len(free))
	}
	return n
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

// Close implements device.Closer.
func (d *Device) Close() {
	for at := range d.pool.sizes {
		d.gpu.Free(at)
	}
	clear(d.pool.sizes)
	clear(d.pool.free)
	d.pool.held = 0
}

// Room implements device.Roomy. It counts memory that the pool holds for reuse, as that is returned when there is no other.
func (d *Device) Room() uint64 { return d.gpu.FreeMemory() + d.pool.idle() }

// Trim implements device.Trimmer. It returns memory that is not in use to the driver.
func (d *Device) Trim() { d.pool.release() }

// Held returns the number of bytes of the GPU's memory that the device holds, in use or for reuse.
func (d *Device) Held() uint64 { return d.pool.held }

// Recover implements device.Recoverer. It returns all free memory to the driver.
func (d *Device) Recover() bool {
	if !errors.As(d.failed, new(*device.MemoryError)) {
		return false
	}
	d.failed = nil
	d.pool.release()
	return true
}
