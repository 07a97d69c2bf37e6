package spago

import (
	"slices"
	"strings"

	"gqa/internal/device"
)

// units are the weights of a model of which each rank keeps a part (ZeRO-3): those of a layer are gathered before an operator reads one
// of them, and freed when the operators of another layer have begun. Meanwhile the next unit, as the last pass used them, is on its way.
// All that is whole takes at most the memory of the two largest units.
//
// All ranks must gather the same units in the same order, so all must make the same passes.
type units struct {
	shards  *shards
	here    []*unit // whole, or on their way
	live    int     // numbers of these
	largest int     // numbers of the largest unit
	now     int     // number of the operator in progress
	last    int     // number of the last one that read weights
	order   []*unit // in which this pass has gathered them
	before  []*unit // in which the last pass of this kind did; nil: not known, or this pass is another
	passes  map[passKind][]*unit
	pending []member // loaded weights of a unit that is not complete
	whole   []bool   // of each of these, whether its step needs all its numbers, so that it belongs to one rank
	load    []int    // numbers that belong to each rank as a whole
}

// unit is a layer, or a weight that is in none, with its bias.
type unit struct {
	all     *units
	name    string
	buckets []*bucket
	size    int  // numbers of the buckets
	ready   bool // its weights are whole
	read    int  // number of the last operator that read them
	holds   int  // number of results that are to be computed from them
}

// passKind says what a pass over the model is for, which decides in what order it needs weights.
type passKind uint8

const (
	training passKind = iota
	evaluating
)

// newUnits returns shards that keep the weights which are passed to add.
func newUnits(d device.Device, how Sharing) *shards {
	how.Gradients = true
	s := &shards{Sharing: how, device: d}
	s.units = &units{shards: s, now: 1, passes: map[passKind][]*unit{}, load: make([]int, how.Group.Size())}
	return s
}

// unitName returns what a weight is gathered with.
func unitName(weight string) string {
	if layer := layerName.FindString(weight); layer != "" {
		return layer
	}
	return strings.TrimSuffix(strings.TrimSuffix(weight, ".bias"), ".weight")
}

// add takes a weight that has been loaded, or a part of its adapter. Those of a unit must follow each other. Once they are complete, what
// belongs to other ranks is freed: a model need not fit in the memory of one. whole says that its step needs all its numbers.
func (u *units) add(m member, whole bool) {
	if n := len(u.pending); n > 0 && unitName(u.pending[n-1].name) != unitName(m.name) {
		u.loaded()
	}
	u.pending, u.whole = append(u.pending, m), append(u.whole, whole)
}

// loaded divides the weights that were passed to add since.
func (u *units) loaded() {
	one := &unit{all: u, name: unitName(u.pending[0].name)}
	byKey := map[string]*bucket{}
	for i, m := range u.pending {
		v := m.value()
		key := bucketKey(m.name, v)
		switch {
		case v.frozen:
			key += " frozen"
		case u.whole[i] && v.joint != nil:
			key = v.joint.members[0]
		case u.whole[i]:
			key = m.name
		}
		if byKey[key] == nil {
			byKey[key] = &bucket{shards: u.shards, owner: -1}
			if u.whole[i] && !v.frozen {
				byKey[key].owner = slices.Index(u.load, slices.Min(u.load))
			}
			one.buckets = append(one.buckets, byKey[key])
			if v.frozen {
				u.shards.frozen = append(u.shards.frozen, byKey[key])
			} else {
				u.shards.buckets = append(u.shards.buckets, byKey[key])
			}
		}
		b := byKey[key]
		if b.members = append(b.members, m); b.owner >= 0 {
			u.load[b.owner] += m.param.Size()
		}
		v.unit = one
	}
	for _, b := range one.buckets {
		b.lay()
		b.mustBeAdjacent()
		b.divide()
		b.keep()
		one.size += b.exchanged()
	}
	u.largest = max(u.largest, one.size)
	u.pending, u.whole = nil, nil
}

// keep copies this rank's part of a bucket's weights, and frees them.
func (b *bucket) keep() {
	d := b.shards.device
	if b.reads = b.members[0].value().operand().Format(); b.owner < 0 || b.owner == b.shards.Group.Rank() {
		b.own = d.New(b.reads, b.part)
		d.Clear(b.own)
	}
	for i, m := range b.members {
		v := m.value()
		lo, hi := b.range_(m, b.shards.Group.Rank())
		if lo < hi {
			d.Copy(b.mine(b.own, m), v.operand().Slice(lo, hi))
		}
		switch {
		case !b.copied:
		case !v.data.None():
			b.members[i].besides = "data"
		case !v.rest.None():
			b.members[i].besides = "rest"
		}
		if b.copied {
			v.data, v.rest = b.partOf(v.data, lo, hi), b.partOf(v.rest, lo, hi)
		}
	}
	joints := b.joints()
	for _, m := range b.members {
		v := m.value()
		switch {
		case v.joint != nil:
		case b.copied:
			d.Free(v.compute)
		default:
			d.Unload(v.data)
		}
	}
	for _, j := range joints {
		d.Free(j.operand())
	}
	b.leave()
}

// partOf returns a copy of numbers, which it frees; omitted if these are omitted or there are none.
func (b *bucket) partOf(x device.Buffer, lo, hi int) (part device.Buffer) {
	if x.None() {
		return x
	}
	d := b.shards.device
	if lo < hi {
		part = d.New(x.Format(), hi-lo)
		d.Copy(part, x.Slice(lo, hi))
	}
	if x.Format() == device.F32 {
		d.Unload(x)
	} else {
		d.Free(x)
	}
	return part
}

// begin begins a pass over the model.
func (u *units) begin(kind passKind) { u.order, u.before = nil, u.passes[kind] }

// end ends a pass: an optimizer's step may follow, which changes weights.
func (u *units) end(kind passKind) {
	u.passes[kind] = u.order
	for len(u.here) > 0 {
		u.here[0].free()
	}
}

// use gathers the weights of a unit, which the operator in progress reads.
func (one *unit) use() {
	u := one.all
	if one.ready && one.read == u.now {
		return
	}
	one.read, u.last = u.now, u.now
	if one.ready {
		return
	}
	if !slices.Contains(u.here, one) {
		one.gather()
	}
	for _, b := range one.buckets {
		b.arrival.Wait()
		b.arrival = nil
		b.arrive()
	}
	one.ready = true
	if u.order = append(u.order, one); u.before != nil && (len(u.order) > len(u.before) || u.before[len(u.order)-1] != one) {
		u.before = nil
	}
	u.ask()
}

// ask asks for the next unit, if there is room for it.
func (u *units) ask() {
	if n := len(u.order); n > 0 && n < len(u.before) && u.live+u.before[n].size <= 2*u.largest && !slices.Contains(u.here, u.before[n]) {
		u.before[n].gather()
	}
}

// next ends an operator. It frees what is not read any more, and then asks for the next unit.
func (u *units) next() {
	for i := len(u.here) - 1; i >= 0; i-- {
		if one := u.here[i]; one.ready && one.read < u.last && one.holds == 0 {
			one.free()
		}
	}
	u.now++
	u.ask()
}

// gather begins to gather the weights of a unit.
func (one *unit) gather() {
	s := one.all.shards
	one.all.here = append(one.all.here, one)
	one.all.live += one.size
	for _, b := range one.buckets {
		b.home = s.device.New(b.reads, b.exchanged())
		if !b.own.None() {
			first := b.first()
			s.device.Copy(b.home.Slice(first, first+b.part), b.own)
		}
		if b.owner < 0 {
			b.arrival = s.Group.AllGather(b.home)
		} else {
			b.arrival = s.Group.Broadcast(b.home, b.owner)
		}
	}
}

// free frees the weights of a unit.
func (one *unit) free() {
	one.all.live -= one.size
	one.all.here = slices.DeleteFunc(one.all.here, func(other *unit) bool { return other == one })
	for _, b := range one.buckets {
		if b.arrival != nil {
			b.arrival.Wait()
			b.arrival = nil
		}
		one.all.shards.device.Free(b.home)
		b.home = device.Buffer{}
		b.leave()
	}
	one.ready = false
}

// arrive makes the weights of a bucket those in its home.
func (b *bucket) arrive() {
	for _, m := range b.members {
		b.point(m.value(), b.home.Slice(m.at, m.at+m.param.Size()))
	}
	for _, j := range b.joints() {
		first, last := b.span(j)
		j.point(b.copied, b.home.Slice(first, last))
	}
}

// leave makes the weights of a bucket omitted.
func (b *bucket) leave() {
	for _, m := range b.members {
		b.point(m.value(), device.Buffer{})
	}
	for _, j := range b.joints() {
		j.point(b.copied, device.Buffer{})
	}
}

// point makes what products read of a weight other numbers.
func (b *bucket) point(v *value, to device.Buffer) {
	if b.copied {
		v.compute = to
	} else {
		v.data = to
	}
}

func (j *joint) point(copied bool, to device.Buffer) {
	if copied {
		j.compute = to
	} else {
		j.data = to
	}
}

// use returns a weight whose numbers are read next.
func use(v *value) *value {
	if v.unit != nil {
		v.unit.use()
	}
	return v
}

// hold keeps weights whole until release is called or the result y, which is to be computed from them, is released.
func (y *value) hold(weights ...*value) {
	for _, w := range weights {
		if w.unit != nil {
			w.unit.holds++
			y.held = append(y.held, w.unit)
		}
	}
}

// letGo ends hold.
func (y *value) letGo() {
	for _, one := range y.held {
		one.holds--
	}
	y.held = nil
}
