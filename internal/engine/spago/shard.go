package spago

import (
	"cmp"
	"slices"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// Sharing says how processes that train one model divide the work of the optimizer. The zero value stands for one process.
type Sharing struct {
	Group comm.Comm // nil: one process
	// Gradients says that each process keeps only its part of the gradients' sum (ZeRO-2), which is then taken after every
	// micro-batch. Otherwise only the optimizer's state and what 16-bit weights lack are divided (ZeRO-1), and the sum is taken once a
	// step. (Rajbhandari et al., arXiv 1910.02054)
	Gradients bool
	// Parameters says that each process also keeps only its part of the weights (ZeRO-3), and all of a layer's while it computes with
	// them. It implies Gradients. See units.
	Parameters bool
}

// shards divides the weights among the ranks of a group. AdamW's weights are divided number by number: those of a layer form a
// bucket, of which rank r has part r. A weight whose step needs all its numbers, as Muon's and Adafactor's do, belongs to one rank.
type shards struct {
	Sharing
	device  device.Device
	buckets []*bucket
	frozen  []*bucket // of weights that are not trained; with Sharing.Parameters alone
	units   *units    // nil: each rank has all weights
	order   []*bucket // in the order in which the last pass completed their gradients
	running []*bucket // whose gradients are being summed
	final   bool      // this pass is the step's last
	asked   int       // number of buckets whose weights are on their way, or here
}

// newShards divides slots, whose moments are not allocated yet, and whose weights are whole.
func newShards(d device.Device, how Sharing, slots []slot) *shards {
	s := &shards{Sharing: how, device: d}
	byKey := map[string]*bucket{}
	for i := range slots {
		at := &slots[i]
		key := bucketKey(at.name, at.param.Matrix.(*value))
		b := byKey[key]
		if b == nil || at.whole {
			b = &bucket{shards: s, owner: -1}
			s.buckets = append(s.buckets, b)
			if !at.whole {
				byKey[key] = b
			}
		}
		b.members = append(b.members, member{name: at.name, param: at.param, slot: at})
	}
	s.assign()
	for _, b := range s.buckets {
		b.lay()
		b.divide()
	}
	s.settleDown()
	return s
}

// take gives slots the weights that units keep.
func (s *shards) take(slots []slot) {
	for i := range slots {
		v := valueOf(slots[i].param)
		v.bucket.members[v.bucket.index(v)].slot = &slots[i]
	}
	for _, b := range s.buckets {
		b.divide()
		b.direct = true
	}
}

// assign gives each weight that cannot be divided to the rank that has the least, the largest first.
func (s *shards) assign() {
	var whole []*bucket
	for _, b := range s.buckets {
		if b.members[0].slot.whole {
			whole = append(whole, b)
		}
	}
	size := func(b *bucket) int { return b.members[0].param.Size() }
	slices.SortStableFunc(whole, func(a, b *bucket) int { return cmp.Compare(size(b), size(a)) })
	load := make([]int, s.Group.Size())
	for _, b := range whole {
		for rank := range load {
			if b.owner < 0 || load[rank] < load[b.owner] {
				b.owner = rank
			}
		}
		load[b.owner] += size(b)
	}
}

// begin prepares for a pass, forward and backward.
func (s *shards) begin() {
	s.order = s.order[:0]
	for _, b := range s.buckets {
		b.left = len(b.members)
		for _, m := range b.members {
			m.value().uses = 0
		}
	}
}

// written is called after a backward function has written a weight's gradient, and begins to sum those of a bucket once all are
// complete.
func (s *shards) written(v *value) {
	v.uses--
	switch b := v.bucket; {
	case v.uses < 0:
		panic("a gradient was written after it had been summed")
	case v.uses == 0:
		if b.left--; b.left == 0 {
			s.complete(b)
		}
	}
}

// flush is called after a pass: the loss may not depend on all weights.
func (s *shards) flush() {
	for _, b := range s.buckets {
		if !slices.Contains(s.order, b) {
			s.complete(b)
		}
	}
}

// complete begins to sum a bucket's gradients, if that is due after this pass.
func (s *shards) complete(b *bucket) {
	s.order = append(s.order, b)
	if s.final || s.divides(b) {
		s.start(b)
	}
}

// divides reports whether the gradients of a bucket are summed after each pass, so that ranks keep only what is theirs.
func (s *shards) divides(b *bucket) bool { return s.Gradients && b.owner < 0 || s.units != nil }

// idle takes part in the sums after a pass of other ranks.
func (s *shards) idle() {
	for _, b := range s.order {
		if s.final || s.divides(b) {
			s.start(b)
		}
	}
}

// inFlight is the number of buckets that may be in the process of being summed: each takes the memory of its gradients again.
const inFlight = 3

// start begins to sum a bucket's gradients.
func (s *shards) start(b *bucket) {
	if i := slices.Index(s.running, b); i >= 0 || len(s.running) == inFlight { // i >= 0: it is being summed after an earlier pass
		i = max(i, 0)
		s.finish(s.running[i])
		s.running = slices.Delete(s.running, i, i+1)
	}
	s.running = append(s.running, b)
	if b.owner >= 0 && s.units == nil {
		s.startWhole(b)
		return
	}
	f := b.format()
	if b.owner < 0 {
		b.next = s.device.New(f, b.part)
	}
	b.open(f)
	for i, m := range b.members {
		place, g := b.operand.Slice(m.at, m.at+m.param.Size()), Grad(m.param)
		if g.None() {
			s.clear(place)
			continue
		}
		if !sameMemory(place, g) {
			s.device.Copy(place, g)
		}
		b.members[i].has = true
	}
	if b.owner < 0 {
		b.op = s.Group.ReduceScatter(b.next, b.operand)
	} else {
		b.op = s.Group.AllReduce(b.operand)
	}
	if s.Gradients {
		b.detach()
	}
}

// startWhole begins to sum the gradient of a weight that is not divided, in place.
func (s *shards) startWhole(b *bucket) {
	m := &b.members[0]
	if b.sum = Grad(m.param); b.sum.None() {
		b.op = nil
		return
	}
	m.has = true
	b.op = s.Group.AllReduce(b.sum)
}

func (s *shards) clear(b device.Buffer) {
	if b.Len() > 0 {
		s.device.Clear(b)
	}
}

// finish waits for the sum of a bucket's gradients. The sums of several passes are added.
func (s *shards) finish(b *bucket) {
	if b.op == nil {
		return
	}
	b.op.Wait()
	b.op = nil
	switch {
	case b.owner >= 0 && s.units == nil:
		return
	case b.owner == s.Group.Rank():
		b.next, b.operand = b.operand, device.Buffer{}
	case s.Gradients:
		s.device.Free(b.operand)
		b.operand = device.Buffer{}
	}
	if b.next.None() { // it belongs to another rank
		return
	}
	if b.added {
		s.device.Axpy(1, b.next, b.sum)
		s.device.Free(b.next)
	} else {
		b.sum, b.added = b.next, true
	}
	b.next = device.Buffer{}
}

// settle waits for all sums.
func (s *shards) settle() {
	s.arrive()
	for _, b := range s.running {
		s.finish(b)
	}
	s.running, s.final = s.running[:0], false
}

// forget drops the gradients' sums after a step.
func (s *shards) forget() {
	for _, b := range s.buckets {
		if b.owner < 0 || s.units != nil {
			s.device.Free(b.sum)
		}
		b.sum, b.added = device.Buffer{}, false
		for i := range b.members {
			b.members[i].has = false
		}
	}
}

// gradient returns the sum of the gradients of a slot's own numbers; omitted if there is none, or if it has no numbers.
func (s *shards) gradient(at *slot) device.Buffer {
	b := valueOf(at.param).bucket
	for _, m := range b.members {
		if m.slot != at {
			continue
		}
		if !m.has || at.lo == at.hi {
			return device.Buffer{}
		}
		if b.owner >= 0 && s.units == nil {
			return b.sum
		}
		return b.mine(b.sum, m)
	}
	return device.Buffer{}
}

// squares returns a number that is the sum of the squares of all gradients' sums.
func (s *shards) squares(slots []slot) device.Buffer {
	var terms []device.Term
	for i := range slots {
		if g := s.gradient(&slots[i]); !g.None() {
			terms = append(terms, device.Term{X: g, Weight: 1, Squares: true})
		}
	}
	total := s.device.New(device.F32, 1)
	s.device.Total(total, 1, terms...)
	s.Group.AllReduce(total).Wait()
	return total
}
