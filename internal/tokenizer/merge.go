package tokenizer

// merger joins the symbols of one word. The symbols form a linked list, and candidate merges are kept in a heap, best
// first. This takes O(n log n) for a word of n characters, which matters if a whole document is one word.
type merger struct {
	symbols []symbol
	heap    []candidate
}

// symbol is a token of the word so far. prev and next are indexes into symbols, -1 at the ends. A symbol that was
// joined to its predecessor has ID -1.
type symbol struct{ id, prev, next int32 }

// candidate is a merge of the symbol at pos with its successor. Only the result is stored: by the time it is popped,
// the two symbols may have changed.
type candidate struct {
	key uint64 // rank<<32 | pos
	id  int32
}

func (m *merger) reset() { m.symbols, m.heap = m.symbols[:0], m.heap[:0] }

func (m *merger) add(id int32) {
	n := int32(len(m.symbols))
	if n > 0 {
		m.symbols[n-1].next = n
	}
	m.symbols = append(m.symbols, symbol{id, n - 1, -1})
}

// run applies all merges, lowest rank first and leftmost first among equals.
func (m *merger) run(merges map[pair]merge) {
	for i := range m.symbols {
		m.consider(merges, int32(i))
	}
	for len(m.heap) > 0 {
		c := m.pop()
		pos := int32(uint32(c.key))
		if got, ok := m.mergeAt(merges, pos); !ok || got.id != c.id {
			continue
		}
		m.join(pos, c.id)
		m.consider(merges, pos)
		m.consider(merges, m.symbols[pos].prev)
	}
}

// mergeAt looks up the merge of the symbol at pos with its successor.
func (m *merger) mergeAt(merges map[pair]merge, pos int32) (merge, bool) {
	if pos < 0 || m.symbols[pos].id < 0 || m.symbols[pos].next < 0 {
		return merge{}, false
	}
	s := m.symbols[pos]
	got, ok := merges[pair{s.id, m.symbols[s.next].id}]
	return got, ok
}

func (m *merger) consider(merges map[pair]merge, pos int32) {
	if got, ok := m.mergeAt(merges, pos); ok {
		m.push(candidate{uint64(got.rank)<<32 | uint64(pos), got.id})
	}
}

// join replaces the symbol at pos and its successor by the token id.
func (m *merger) join(pos, id int32) {
	s := &m.symbols[pos]
	gone := &m.symbols[s.next]
	s.id, s.next = id, gone.next
	gone.id = -1
	if s.next >= 0 {
		m.symbols[s.next].prev = pos
	}
}

func (m *merger) appendIDs(dst []int32) []int32 {
	for _, s := range m.symbols {
		if s.id >= 0 {
			dst = append(dst, s.id)
		}
	}
	return dst
}

// push and pop implement a binary heap; container/heap would box every candidate.
func (m *merger) push(c candidate) {
	m.heap = append(m.heap, c)
	h, i := m.heap, len(m.heap)-1
	for i > 0 && h[(i-1)/2].key > c.key {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = c
}

func (m *merger) pop() candidate {
	h := m.heap
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	m.heap = h
	i := 0
	for child := 1; child < len(h); child = 2*i + 1 {
		if child+1 < len(h) && h[child+1].key < h[child].key {
			child++
		}
		if last.key <= h[child].key {
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) > 0 {
		h[i] = last
	}
	return top
}
