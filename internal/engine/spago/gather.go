package spago

import (
	"gqa/internal/comm"
	"gqa/internal/device"
)

// ahead is the number of buckets whose weights are on their way before they are used.
const ahead = 3

// gather begins to give every rank the weights that the others have changed. Those of a bucket arrive when one of them is used, in the
// forward pass, and those of the next buckets are on their way by then.
func (s *shards) gather() {
	s.asked = 0
	for _, b := range s.buckets {
		for _, m := range b.members {
			m.value().late = func() { s.await(b) }
		}
	}
	s.ask(ahead)
}

// ask asks for the weights of the first n buckets, in this order on all ranks.
func (s *shards) ask(n int) {
	for ; s.asked < min(n, len(s.buckets)); s.asked++ {
		b := s.buckets[s.asked]
		if b.owner >= 0 {
			b.arrival = s.Group.Broadcast(b.shared(b.members[0]), b.owner)
		} else {
			b.arrival = s.Group.AllGather(b.home)
		}
	}
}

// shared returns the numbers of a weight that ranks share: all of it, or of one in two parts the one that products read.
func (b *bucket) shared(m member) device.Buffer {
	if v := m.value(); !v.data.None() {
		return v.data
	}
	return m.value().compute
}

// await waits for the weights of a bucket.
func (s *shards) await(b *bucket) {
	for _, m := range b.members {
		m.value().late = nil
	}
	for i, other := range s.buckets {
		if other == b {
			s.ask(i + 1 + ahead)
		}
	}
	b.arrival.Wait()
	b.arrival = nil
	for _, m := range b.members {
		if v := m.value(); !v.data.None() {
			v.updateCompute()
		}
	}
}

// arrive waits for all weights. All ranks must call it before one of them does anything else that others take part in.
func (s *shards) arrive() {
	for _, b := range s.buckets {
		if late := b.members[0].value().late; late != nil {
			late()
		}
	}
}

// collect returns all numbers of which each rank has its own part of a member's, in memory that the caller must free. All ranks must
// call it.
func (b *bucket) collect(m member, own device.Buffer, f device.Format) device.Buffer {
	s := b.shards
	whole := s.device.New(f, m.param.Size())
	if lo, hi := b.range_(m, s.Group.Rank()); lo < hi {
		s.device.Copy(whole.Slice(lo, hi), own)
	}
	var ops []comm.Op
	for rank := range s.Group.Size() {
		if lo, hi := b.range_(m, rank); lo < hi {
			ops = append(ops, s.Group.Broadcast(whole.Slice(lo, hi), rank))
		}
	}
	for _, op := range ops {
		op.Wait()
	}
	return whole
}

// average is collect for an average, in F32 whatever it is stored in.
func (b *bucket) average(m member, own average) device.Buffer {
	x, copied := own.f32(b.shards.device)
	if copied {
		defer b.shards.device.Free(x)
	}
	return b.collect(m, x, device.F32)
}

// fromOwner returns n numbers that the owner of a bucket has, in memory that the caller must free. All ranks must call it.
func (b *bucket) fromOwner(own device.Buffer, n int) device.Buffer {
	all := b.shards.device.New(device.F32, n)
	if b.owner == b.shards.Group.Rank() {
		b.shards.device.Copy(all, own)
	}
	b.shards.Group.Broadcast(all, b.owner).Wait()
	return all
}
