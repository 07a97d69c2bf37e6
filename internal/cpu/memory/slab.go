package memory

const (
	slabElements = 1 << 23 // 32 MiB
	stagger      = 17 * 16 // elements between buffers: 17 cache lines
)

// Slab allocates buffers from large pieces of memory backed by huge pages, where the system has them: a training step walks
// through hundreds of megabytes, more than the TLB covers with small pages. A piece is garbage once none of its buffers is in
// use.
type Slab struct{ rest []float32 }

// Make returns n zeros that begin at a cache line. Buffers of equal size begin at different offsets in their pages, because the
// processor would take reads from one to depend on writes to another (4K aliasing).
func (s *Slab) Make(n int) []float32 {
	const line = 16
	need := (n+line-1)/line*line + stagger
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
