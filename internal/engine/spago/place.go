package spago

import (
	"slices"

	"gqa/internal/device"
)

// settleDown moves the weights of each bucket into one buffer, in which ranks exchange them, and arranges that backward functions write
// their gradients into another one. A weight that belongs to one rank stays where it is.
func (s *shards) settleDown() {
	for _, b := range s.buckets {
		if b.owner >= 0 {
			continue
		}
		b.mustBeAdjacent()
		old := b.shared(b.members[0])
		b.home = s.device.New(old.Format(), b.part*s.Group.Size())
		s.device.Clear(b.home)
		for _, m := range b.members {
			at, v := b.home.Slice(m.at, m.at+m.param.Size()), m.value()
			s.device.Copy(at, b.shared(m))
			switch {
			case v.data.None():
				v.compute = at
			default:
				if v.joint == nil || !v.joint.compute.None() {
					s.device.Unload(v.data)
				}
				v.data = at
			}
		}
		for _, j := range b.joints() {
			first, last := b.span(j)
			if old := &j.data; j.compute.None() {
				s.device.Free(*old)
				*old = b.home.Slice(first, last)
			} else if j.parts[0].data.None() {
				s.device.Free(j.compute)
				j.compute = b.home.Slice(first, last)
			}
		}
		b.direct = true
	}
}

// joints returns the joints of a bucket's weights.
func (b *bucket) joints() (all []*joint) {
	for _, m := range b.members {
		if j := m.value().joint; j != nil && !slices.Contains(all, j) {
			all = append(all, j)
		}
	}
	return all
}

// span returns where the weights of a joint begin and end in a bucket.
func (b *bucket) span(j *joint) (first, last int) {
	for _, m := range b.members {
		switch v := m.value(); v {
		case j.parts[0]:
			first = m.at
			fallthrough
		case j.parts[len(j.parts)-1]:
			last = m.at + m.param.Size()
		}
	}
	return first, last
}

// mustBeAdjacent checks that the weights of the bucket's joints are in it in order and without gaps, as products read them.
func (b *bucket) mustBeAdjacent() {
	for _, j := range b.joints() {
		at := -1
		for _, p := range j.parts {
			i := slices.IndexFunc(b.members, func(m member) bool { return m.value() == p })
			if i < 0 || at >= 0 && b.members[i].at != at {
				panic("a part of a joint is trained, and a part is not") // no recipe does so
			}
			at = b.members[i].at + p.Size()
		}
	}
}

// open allocates the gradients of a bucket, unless they are there. What is between them is zero.
func (b *bucket) open(f device.Format) {
	if !b.operand.None() {
		return
	}
	b.operand = b.shards.device.New(f, b.exchanged())
	end := 0
	for _, m := range b.members {
		b.shards.clear(b.operand.Slice(end, m.at))
		end = m.at + m.param.Size()
	}
	b.shards.clear(b.operand.From(end))
}

// place gives a weight of a bucket, and the others of its joint, its gradient's place. It reports whether there is one.
func (b *bucket) place(v *value) bool {
	if !b.direct {
		return false
	}
	if b.op != nil { // with the gradients of the pass before
		b.shards.finish(b)
	}
	b.open(v.gradFormat)
	for _, m := range b.members {
		if p := m.value(); p == v || v.joint != nil && p.joint == v.joint {
			p.grad = b.operand.Slice(m.at, m.at+p.Size())
		}
	}
	if v.joint != nil {
		first, last := b.span(v.joint)
		v.joint.grad = b.operand.Slice(first, last)
	}
	return true
}

// forget drops the place of the gradients, whose format changes.
func (b *bucket) forget() {
	if b.operand.None() {
		return
	}
	b.shards.device.Free(b.operand)
	b.operand = device.Buffer{}
	b.detach()
}

// detach makes the members forget the place of their gradients, which are being summed.
func (b *bucket) detach() {
	for _, m := range b.members {
		v := m.value()
		v.grad, v.fresh, v.sharers = device.Buffer{}, true, nil
		if v.joint != nil {
			v.joint.grad = device.Buffer{}
		}
	}
}

// sameMemory reports whether two buffers are the same numbers.
func sameMemory(a, b device.Buffer) bool {
	switch {
	case a.Len() != b.Len() || a.Format() != b.Format() || a.Addr() != b.Addr():
		return false
	case a.F32() != nil && b.F32() != nil:
		return &a.F32()[0] == &b.F32()[0]
	case a.U16() != nil && b.U16() != nil:
		return &a.U16()[0] == &b.U16()[0]
	}
	return a.Addr() != 0
}
