package spago

import (
	"regexp"
	"slices"

	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// bucket is a set of weights whose gradients are summed together, as soon as all of them are complete.
type bucket struct {
	shards  *shards
	members []member
	owner   int           // the rank that has all of it; -1: each has a part
	part    int           // numbers per rank; of an owner with Sharing.Parameters, all
	home    device.Buffer // [ranks, part]: the weights, as ranks share them; omitted if one rank has them, or if they are not here
	own     device.Buffer // [part]: with Sharing.Parameters, this rank's part of the weights; omitted if it has none
	reads   device.Format // with Sharing.Parameters, of own
	copied  bool          // what ranks share of the weights are copies in the format of activations
	direct  bool          // backward functions write gradients into operand
	left    int           // number of members whose gradients are not complete
	added   bool          // sum holds an earlier pass

	operand, next, sum device.Buffer // gradients [ranks, part], and this rank's part of their sum: of this pass, and of all
	op                 comm.Op       // sums operand

	arrival comm.Op // brings the weights
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

// mine returns a member's numbers in this rank's part of a bucket, [part].
func (b *bucket) mine(part device.Buffer, m member) device.Buffer {
	lo, hi := b.range_(m, b.shards.Group.Rank())
	if lo == hi {
		return device.Buffer{}
	}
	return part.Slice(m.at+lo-b.first(), m.at+hi-b.first())
}

// format returns the format of the gradients of a bucket's members.
func (b *bucket) format() device.Format { return b.members[0].value().gradFormat }
