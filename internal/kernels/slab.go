package kernels

import "gqa/internal/cpu/pool"

const (
	slabElements = 1 << 23 // 32 MiB
	stagger      = 17 * 16 // elements between buffers: 17 cache lines
)

// Slab cuts buffers from large pieces of memory for which huge pages are asked for, where the system has them: a training
// step walks through hundreds of megabytes, more than the processor remembers small pages for. The buffers are collected as
// any memory, a piece as soon as none of its buffers is in use.
type Slab struct{ rest []float32 }

// Make returns n zeros, which begin at a cache line. Buffers of equal size do not lie at equal places in their pages: reads
// from one would be taken to depend on writes to another.
func (s *Slab) Make(n int) []float32 {
	const line = 16
	need := pool.RoundUp(n, line) + stagger
	if need > slabElements/4 && need > len(s.rest) {
		return newPiece(need)[:n:n]
	}
	if need > len(s.rest) {
		s.rest = newPiece(slabElements)
	}
	buffer := s.rest[:n:n]
	s.rest = s.rest[need:]
	return buffer
}

func newPiece(n int) []float32 {
	piece := make([]float32, n)
	HugePages(piece)
	return piece
}
