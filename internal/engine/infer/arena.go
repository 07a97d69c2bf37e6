package infer

import "gqa/internal/device"

// arena allocates buffers of one format that are all released by the next reset. After a pass of some size, passes of at most
// that size do not allocate.
type arena struct {
	device device.Device
	format device.Format
	blocks []device.Buffer
	block  int // current block
	used   int // numbers in use in the current block
}

const arenaBlock = 1 << 18

func (a *arena) reset() { a.rewind(mark{}) }

// release resets the arena and frees its blocks.
func (a *arena) release() {
	for _, b := range a.blocks {
		a.device.Free(b)
	}
	a.blocks = nil
	a.reset()
}

// mark is a position to rewind to, keeping what was taken before it.
type mark struct{ block, used int }

func (a *arena) mark() mark    { return mark{a.block, a.used} }
func (a *arena) rewind(m mark) { a.block, a.used = m.block, m.used }

// take returns n numbers with unspecified contents.
func (a *arena) take(n int) device.Buffer {
	for ; a.block < len(a.blocks); a.block, a.used = a.block+1, 0 {
		if b := a.blocks[a.block]; a.used+n <= b.Len() {
			s := b.Slice(a.used, a.used+n)
			a.used += n
			return s
		}
	}
	block := a.device.New(a.format, max(n, arenaBlock))
	if block.None() { // the device has failed
		return block.Slice(0, n)
	}
	a.blocks = append(a.blocks, block)
	a.used = n
	return a.blocks[a.block].Slice(0, n)
}
