package eval

import (
	"cmp"
	"slices"
)

// reading is what a decoder must read to answer a query.
type reading struct {
	query  int // index
	source []int32
	rows   []row
	prefix int // number of first tokens that all rows have in common and of which no prediction is needed
}

// row is a token sequence to read.
type row struct {
	ids           []int32
	continuations []int // indices of the query's continuations that are predicted by these tokens
}

// readings returns what a decoder must read. Continuations that differ in the last token only are predicted by the same row.
func readings(queries []Query) []*reading {
	var all []*reading
	for i, q := range queries {
		if len(q.Continuations) == 0 {
			continue
		}
		r := &reading{query: i, source: q.Source, prefix: q.Continuations[0].From - 1}
		for j, c := range q.Continuations {
			r.prefix = min(r.prefix, c.From-1)
			r.add(c.IDs[:len(c.IDs)-1], j)
		}
		for _, other := range r.rows[1:] {
			r.prefix = common(r.rows[0].ids[:r.prefix], other.ids)
		}
		all = append(all, r)
	}
	return all
}

func (r *reading) add(ids []int32, continuation int) {
	for i := range r.rows {
		if slices.Equal(r.rows[i].ids, ids) {
			r.rows[i].continuations = append(r.rows[i].continuations, continuation)
			return
		}
	}
	r.rows = append(r.rows, row{ids, []int{continuation}})
}

// shared returns the tokens that all rows have in common.
func (r *reading) shared() []int32 { return r.rows[0].ids[:r.prefix] }

// width returns the length of the longest row.
func (r *reading) width() (n int) {
	for _, row := range r.rows {
		n = max(n, len(row.ids))
	}
	return n
}

// common returns the number of first tokens that are equal.
func common(x, y []int32) int {
	n := min(len(x), len(y))
	for i := range n {
		if x[i] != y[i] {
			return i
		}
	}
	return n
}

// cluster is a set of readings with the same first tokens, which are read once.
type cluster struct {
	head     []int32
	readings []*reading
}

// leastHead is the smallest number of tokens that are worth being read apart.
const leastHead = 32

// clusters returns readings by what they have in common, such as examples before a question: at least half of what the rows of one of
// them have in common. The last cluster has no head.
func clusters(all []*reading) []cluster {
	slices.SortStableFunc(all, func(a, b *reading) int { return slices.Compare(a.shared(), b.shared()) })
	var found []cluster
	rest := cluster{}
	for len(all) > 0 {
		head, n := all[0].shared(), 1
		for ; n < len(all); n++ {
			next, last := all[n].shared(), all[n-1].shared()
			if same := common(last, next); same < leastHead || 2*same < min(len(last), len(next)) {
				break
			}
			head = head[:common(head, next)]
		}
		if n > 1 && len(head) >= leastHead {
			found = append(found, cluster{head, all[:n:n]})
		} else {
			rest.readings = append(rest.readings, all[:n]...)
		}
		all = all[n:]
	}
	return append(found, rest)
}

// batch is a set of readings that go through the layers together.
type batch struct {
	readings []*reading
	prefix   int // number of tokens of each that are read before the rows part
	width    int // length of the longest row
	source   int // length of the longest source
}

// width returns the length of the longest row.
func (c cluster) width() (n int) {
	for _, r := range c.readings {
		n = max(n, r.width())
	}
	return n
}

// batches splits a cluster into sets of similar lengths. A pass over one has at most passTokens tokens beside the head, and its cache
// at most cacheTokens, unless it consists of one reading.
func (c cluster) batches(passTokens, cacheTokens int) []batch {
	most := len(c.readings)
	if len(c.head) > 0 { // all batches have a cache of the same width
		most = cacheTokens / max(1, c.width())
	}
	slices.SortStableFunc(c.readings, func(a, b *reading) int {
		return cmp.Or(cmp.Compare(len(a.source), len(b.source)), cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.width(), b.width()))
	})
	var all []batch
	for _, r := range c.readings {
		if n := len(all); n > 0 && len(all[n-1].readings) < most && all[n-1].takes(r, len(c.head), passTokens, cacheTokens) {
			all[n-1] = all[n-1].with(r)
			continue
		}
		all = append(all, batch{prefix: r.prefix}.with(r))
	}
	return all
}

// takes reports whether b should have one more reading. Where prefixes differ in length, the longer ones are read again with
// each row, from the shortest on, so they must not differ much.
func (b batch) takes(r *reading, head, passTokens, cacheTokens int) bool {
	more := b.with(r)
	n, apart := len(more.readings), r.prefix-more.prefix
	return apart <= 8+r.prefix/8 && len(r.source)-len(b.readings[0].source) <= 8+len(r.source)/8 &&
		n*max(more.width-head, more.source) <= passTokens && n*more.width <= cacheTokens
}

func (b batch) with(r *reading) batch {
	b.readings = append(slices.Clip(b.readings), r)
	b.prefix, b.width, b.source = min(b.prefix, r.prefix), max(b.width, r.width()), max(b.source, len(r.source))
	return b
}
