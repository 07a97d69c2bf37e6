package spago

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/nlpodyssey/spago/nn"

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

// bucket is a set of weights whose gradients are summed together, as soon as all of them are complete.
type bucket struct {
	shards  *shards
	members []member
	owner   int           // the rank that has all of it; -1: each has a part
	part    int           // numbers per rank; of an owner with Sharing.Parameters, all
	home    device.Buffer // [ranks, part]: the weights, as ranks share them; omitted if they are elsewhere, or not here
	own     device.Buffer // [part]: with Sharing.Parameters, this rank's part of the weights; omitted if it has none
	reads   device.Format // with Sharing.Parameters, of own
	copied  bool          // what ranks share of the weights are copies in the format of activations
	direct  bool          // backward functions write gradients into operand
	left    int           // number of members whose gradients are not complete
	taken   bool
	added   bool // sum holds an earlier pass

	operand, next, sum device.Buffer // gradients [ranks, part], and this rank's part of their sum: of this pass, and of all
	op                 comm.Op       // sums operand

	weights device.Buffer // on their way, [ranks, part]
	arrival comm.Op
}

// member is a weight's place in a bucket.
type member struct {
	name  string
	param *nn.Param
	slot  *slot // nil: the weight is not trained
	at    int   // its first number
	has   bool  // it has a gradient
	// besides is which kind of part each rank keeps besides that of what products read, with Sharing.Parameters: see kinds. Empty: none.
	besides string
}

// value returns the weight, whose numbers may not be there: see value.late.
func (m member) value() *value { return m.param.Matrix.(*value) }

// grain is the number of numbers that parts and weights begin at multiples of, so that GPUs read them aligned.
const grain = 64

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

// bucketKey returns the layer that a weight belongs to, and whether it has a copy that products read: gradients of one bucket have
// one format.
func bucketKey(name string, v *value) string {
	key := name
	if layer := layerName.FindString(name); layer != "" {
		key = layer
	}
	if v.compute.None() {
		return key
	}
	return key + " copied"
}

// layerName matches what the names of a layer's weights begin with.
var layerName = regexp.MustCompile(`^(.*\.)?layers\.\d+\.`)

// lay gives the members of a bucket their places. Those of a joint follow each other without gaps, as products read them.
func (b *bucket) lay() {
	var all []member
	for _, m := range b.members {
		m.value().bucket = b
		if j := m.value().joint; j != nil && m.value() == j.parts[0] {
			for _, p := range j.parts {
				if i := b.index(p); i >= 0 {
					all = append(all, b.members[i])
				}
			}
		} else if j == nil || b.index(j.parts[0]) < 0 {
			all = append(all, m)
		}
	}
	at := 0
	for i := range all {
		if j := all[i].value().joint; i == 0 || j == nil || j != all[i-1].value().joint {
			at = (at + grain - 1) / grain * grain
		}
		all[i].at = at
		at += all[i].param.Size()
	}
	b.members, b.copied = all, !all[0].value().compute.None()
}

// index returns the number of a weight in a bucket; -1 if it is in another.
func (b *bucket) index(v *value) int {
	return slices.IndexFunc(b.members, func(m member) bool { return m.value() == v })
}

// numbers returns the length of a bucket.
func (b *bucket) numbers() int {
	last := b.members[len(b.members)-1]
	return last.at + last.param.Size()
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

// divide tells the members which of their numbers belong to this rank.
func (b *bucket) divide() {
	size := b.shards.Group.Size()
	if b.part = (b.numbers() + size*grain - 1) / (size * grain) * grain; b.owner >= 0 {
		b.part = b.numbers()
	}
	for _, m := range b.members {
		if m.slot != nil {
			m.slot.lo, m.slot.hi = b.range_(m, b.shards.Group.Rank())
		}
	}
}

// exchanged returns how many numbers all ranks exchange.
func (b *bucket) exchanged() int {
	if b.owner >= 0 {
		return b.part
	}
	return b.part * b.shards.Group.Size()
}

// first returns the first number of this rank's part.
func (b *bucket) first() int {
	if b.owner >= 0 {
		return 0
	}
	return b.shards.Group.Rank() * b.part
}

// range_ returns which numbers of a member belong to a rank.
func (b *bucket) range_(m member, rank int) (lo, hi int) {
	n := m.param.Size()
	if b.owner >= 0 {
		if rank == b.owner {
			return 0, n
		}
		return 0, 0
	}
	lo, hi = max(rank*b.part-m.at, 0), min((rank+1)*b.part-m.at, n)
	if lo >= hi {
		return 0, 0
	}
	return lo, hi
}

// begin prepares for a pass, forward and backward.
func (s *shards) begin() {
	s.order = s.order[:0]
	for _, b := range s.buckets {
		b.left, b.taken = len(b.members), false
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
	if b.operand.None() {
		b.operand = s.device.New(f, b.exchanged())
		s.device.Clear(b.operand.From(b.numbers()))
	}
	end := 0
	for i, m := range b.members {
		if !b.direct {
			s.clear(b.operand.Slice(end, m.at))
		}
		end = m.at + m.param.Size()
		place, g := b.operand.Slice(m.at, end), Grad(m.param)
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
	switch {
	case s.Gradients && b.direct:
		b.detach()
	case s.Gradients:
		for _, m := range b.members {
			m.value().forgetGrad()
		}
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

// format returns the format of the gradients of a bucket's members.
func (b *bucket) format() device.Format { return b.members[0].value().gradFormat }

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
	case !b.direct || s.Gradients:
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

// mine returns a member's numbers in this rank's part of a bucket, [part].
func (b *bucket) mine(part device.Buffer, m member) device.Buffer {
	lo, hi := b.range_(m, b.shards.Group.Rank())
	if lo == hi {
		return device.Buffer{}
	}
	return part.Slice(m.at+lo-b.first(), m.at+hi-b.first())
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
