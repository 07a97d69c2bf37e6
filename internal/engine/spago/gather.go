package spago

import (
	"gqa/internal/comm"
	"gqa/internal/device"
)

// gather gives every rank the weights that the others have changed.
func (s *shards) gather() {
	for _, b := range s.buckets {
		if b.owner >= 0 {
			m := b.members[0]
			s.Group.Broadcast(Data(m.slot.param), b.owner).Wait()
			valueOf(m.slot.param).updateCompute()
			continue
		}
		v := valueOf(b.members[0].slot.param)
		if v.data.None() {
			s.gatherBucket(b, func(v *value) device.Buffer { return v.compute })
			continue
		}
		s.gatherBucket(b, func(v *value) device.Buffer { return v.data })
		for _, m := range b.members {
			valueOf(m.slot.param).updateCompute()
		}
	}
}

// gatherBucket gathers one buffer of each member.
func (s *shards) gatherBucket(b *bucket, of func(*value) device.Buffer) {
	all := s.device.New(of(valueOf(b.members[0].slot.param)).Format(), b.part*s.Group.Size())
	for _, m := range b.members {
		lo, hi := m.slot.lo, m.slot.hi
		if lo < hi {
			s.device.Copy(all.Slice(m.at+lo, m.at+hi), of(valueOf(m.slot.param)).Slice(lo, hi))
		}
	}
	s.Group.AllGather(all).Wait()
	for _, m := range b.members {
		s.device.Copy(of(valueOf(m.slot.param)), all.Slice(m.at, m.at+m.slot.param.Size()))
	}
	s.device.Free(all)
}

// collect returns all numbers of which each rank has its own part of a slot's, in memory that the caller must free. All ranks must
// call it.
func (s *shards) collect(at *slot, own device.Buffer, f device.Format) device.Buffer {
	b := valueOf(at.param).bucket
	whole := s.device.New(f, at.param.Size())
	if at.lo < at.hi {
		s.device.Copy(whole.Slice(at.lo, at.hi), own)
	}
	var ops []comm.Op
	for _, m := range b.members {
		if m.slot != at {
			continue
		}
		for rank := range s.Group.Size() {
			if lo, hi := b.range_(m, rank); lo < hi {
				ops = append(ops, s.Group.Broadcast(whole.Slice(lo, hi), rank))
			}
		}
	}
	for _, op := range ops {
		op.Wait()
	}
	return whole
}
