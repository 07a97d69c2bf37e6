package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	cacheSlots   = 1 << 16
	cacheMaxWord = 128 // in bytes; longer words rarely recur
)

// wordCache caches the IDs of words without locks. A word has one slot, which holds the last word stored there. The
// cache holds at most cacheSlots words.
type wordCache struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

func newWordCache() *wordCache { return &wordCache{seed: maphash.MakeSeed()} }

func (c *wordCache) slot(word string) *atomic.Pointer[cachedWord] {
	return &c.slots[maphash.String(c.seed, word)%cacheSlots]
}

func (c *wordCache) get(word string) ([]int32, bool) {
	if len(word) > cacheMaxWord {
		return nil, false
	}
	e := c.slot(word).Load()
	if e == nil || e.word != word {
		return nil, false
	}
	return e.ids, true
}

// put stores copies of both: the word is a substring of a whole document, which it would keep alive.
func (c *wordCache) put(word string, ids []int32) {
	if len(word) > cacheMaxWord {
		return
	}
	c.slot(word).Store(&cachedWord{strings.Clone(word), append([]int32(nil), ids...)})
}
