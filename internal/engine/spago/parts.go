package spago

import (
	"math"
	"slices"

	"gqa/internal/device"
)

// holder returns the bucket and the place of a weight with a number: those of slots come first, then those that are not trained.
func (o *optimizer) holder(n int) (*bucket, member) {
	if n < len(o.slots) {
		v := valueOf(o.slots[n].param)
		return v.bucket, v.bucket.members[v.bucket.index(v)]
	}
	n -= len(o.slots)
	for _, b := range o.shards.frozen {
		if n < len(b.members) {
			return b, b.members[n]
		}
		n -= len(b.members)
	}
	panic("there is no such weight")
}

// number returns the number of a weight that is not trained.
func (o *optimizer) number(v *value) int {
	n := len(o.slots)
	for _, b := range o.shards.frozen {
		if b == v.bucket {
			return n + b.index(v)
		}
		n += len(b.members)
	}
	panic("the weight is trained")
}

// whole returns all numbers of a weight that are divided among the ranks, on rank 0 within Lead. The caller must free them.
func (o *optimizer) whole(n int, kind string) device.Buffer {
	o.shards.announce(n*len(kinds) + slices.Index(kinds, kind))
	return o.part(n, kind)
}

// part collects what whole returns.
func (o *optimizer) part(n int, kind string) device.Buffer {
	b, m := o.holder(n)
	switch kind {
	case "m.":
		return b.average(m, m.slot.m)
	case "v.":
		return b.average(m, m.slot.v)
	case "row.":
		return b.fromOwner(m.slot.row.values, m.slot.shape[0])
	case "col.":
		return b.fromOwner(m.slot.col.values, m.slot.cols())
	case "mean.":
		return b.collect(m, m.slot.mean, device.F32)
	case "data":
		return b.collect(m, m.value().data, device.F32)
	case "rest":
		return b.collect(m, m.value().rest, device.Rest)
	}
	return b.collect(m, b.mine(b.own, m), b.reads)
}

// gathered returns a weight in F32 of which each rank has a part, or a part of one of its parts, on rank 0 within Lead. The caller must
// free it.
func (o *optimizer) gathered(n int) device.Buffer {
	_, m := o.holder(n)
	v, d := m.value(), o.device
	if m.besides == "data" {
		return o.whole(n, "data")
	}
	near := v.compute // all of it
	if v.unit != nil {
		near = o.whole(n, "own")
		if near.Format() == device.F32 {
			return near
		}
		defer d.Free(near)
	}
	x := d.New(device.F32, v.Size())
	if v.unit != nil && m.besides == "" {
		d.Copy(x, near)
		return x
	}
	rest := o.whole(n, "rest")
	defer d.Free(rest)
	d.Join(x, near, rest)
	return x
}

// gatheredSlot returns a weight of the result as gathered does: the average, if there is one.
func (o *optimizer) gatheredSlot(i int) device.Buffer {
	if o.spec.Average > 0 {
		return o.whole(i, "mean.")
	}
	return o.gathered(i)
}

// gatheredResult returns a weight of the result that is not trained but for a change.
func (o *optimizer) gatheredResult(v *value) []float32 {
	x := o.gathered(o.number(v))
	if l := v.adapter; l != nil {
		var parts [2]device.Buffer
		for i := range o.slots {
			switch o.slots[i].param {
			case l.a:
				parts[0] = o.gatheredSlot(i)
			case l.b:
				parts[1] = o.gatheredSlot(i)
			}
		}
		l.merge(o.device, x, v.rows, v.cols, parts[0], parts[1])
		o.device.Free(parts[0])
		o.device.Free(parts[1])
	}
	return o.hosted(x)
}

// hosted returns a copy of an F32 buffer's numbers, and frees it.
func (o *optimizer) hosted(b device.Buffer) []float32 {
	defer o.device.Free(b)
	return slices.Clone(o.device.Host(b))
}

// set replaces the numbers of a weight that is not trained, of which each rank has a part; see value.set.
func (b *bucket) set(v *value, numbers []float32) {
	d, m := b.shards.device, &b.members[b.index(v)]
	if m.besides = ""; b.copied && slices.ContainsFunc(numbers, func(x float32) bool { return math.Float32bits(x)&0xffff != 0 }) {
		m.besides = "rest"
	}
	d.Free(v.data)
	d.Free(v.rest)
	v.data, v.rest = device.Buffer{}, device.Buffer{}
	lo, hi := b.range_(*m, b.shards.Group.Rank())
	if lo == hi {
		return
	}
	own := b.mine(b.own, *m)
	if m.besides == "" {
		d.Write(own, numbers[lo:hi])
		return
	}
	whole := d.New(device.F32, hi-lo)
	d.Write(whole, numbers[lo:hi])
	v.rest = d.New(device.Rest, hi-lo)
	d.Split(own, v.rest, whole)
	d.Free(whole)
}
