package eval

import (
	"gqa/internal/engine/infer"
	"gqa/internal/ops"
)

// leastCache is the least number of bytes of a KV cache for queries that are read together. A larger model's may be half as large as its
// weights, if memory is left.
const leastCache = 1 << 28

// cacheTokens returns the number of tokens beyond which sequences are not read together.
func (m *Model) cacheTokens() int {
	bytes := max(leastCache, m.Parameters*int64(m.Weights.Size())/2)
	for bytes > leastCache && m.CheckMemory("the KV cache", 2*float64(bytes)) != nil {
		bytes /= 2
	}
	own, cross := m.kvBytes(m.keeps())
	return int(bytes / max(1, own+cross))
}

// decode answers queries to a decoder, with or without an encoder.
func (s *likelihoods) decode(queries []Query) error {
	switch {
	case s.model.Arch.Rope.LongInvFreq() != nil: // a sequence's length determines its rotary frequencies
		return s.decodeAlone(queries, 1)
	case s.model.Window > 0: // a cache does not go back to tokens that it has dropped
		return s.decodeAlone(queries, scoreRows)
	}
	for _, c := range clusters(readings(queries)) {
		all := c.batches(scoreRows, s.model.cacheTokens())
		if len(all) == 0 {
			continue
		}
		if err := s.decodeCluster(c, all, queries); err != nil {
			return err
		}
	}
	return nil
}

// decodeCluster answers the queries of the batches of a cluster.
func (s *likelihoods) decodeCluster(c cluster, all []batch, queries []Query) error {
	seqs, room := 0, 0
	for _, b := range all {
		seqs, room = max(seqs, len(b.readings)), max(room, len(b.readings)*b.width)
	}
	if len(c.head) > 0 { // the head stays where it is for all batches
		room = seqs * c.width()
	}
	whole := s.model.NewCache(1, room)
	defer s.model.Free(whole)
	shared := whole
	if len(c.head) > 0 {
		var err error
		if shared, err = whole.Reshaped(seqs, c.width()); err != nil {
			return err
		}
		first := shared.First(1)
		if err := s.read(first, c.head); err != nil {
			return err
		}
		shared.Repeat(first)
	}
	for _, b := range all {
		view := shared.First(len(b.readings))
		if len(c.head) == 0 {
			var err error
			if view, err = whole.Reshaped(len(b.readings), b.width); err != nil {
				return err
			}
		}
		if err := s.decodeBatch(view, b, queries); err != nil {
			return err
		}
		s.progress(len(b.readings))
	}
	return nil
}

// decodeBatch answers the queries of a batch. The cache may hold their first tokens.
func (s *likelihoods) decodeBatch(cache *infer.Cache, b batch, queries []Query) error {
	if b.source > 0 {
		defer s.model.FreeSource(cache)
		if err := s.model.Encode(cache, b.sources(s.model.Arch.PadToken)); err != nil {
			return err
		}
	}
	var prefixes []int32
	for _, r := range b.readings {
		prefixes = append(prefixes, r.rows[0].ids[cache.Len:b.prefix]...)
	}
	if err := s.read(cache, prefixes); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ids, predictions := s.pass(b, i, queries)
		if len(predictions) == 0 {
			return nil
		}
		cache.Truncate(b.prefix)
		hidden, err := s.model.Read(cache, ids)
		if err != nil {
			return err
		}
		if err := s.score(hidden, predictions); err != nil {
			return err
		}
	}
}

// read reads tokens of every sequence of the cache, some at a time.
func (s *likelihoods) read(cache *infer.Cache, ids []int32) error {
	n := len(ids) / cache.Seqs
	for at := 0; at < n; {
		step := min(n-at, max(1, scoreRows/cache.Seqs))
		var next []int32
		for seq := range cache.Seqs {
			next = append(next, ids[seq*n+at:][:step]...)
		}
		if _, err := s.model.Read(cache, next); err != nil {
			return err
		}
		at += step
	}
	return s.ctx.Err()
}

// pass returns the tokens of row i of every reading after the batch's prefix, padded, and what they predict. A reading without such a
// row has padding instead.
func (s *likelihoods) pass(b batch, i int, queries []Query) (ids []int32, all []prediction) {
	width := 1
	for _, r := range b.readings {
		if i < len(r.rows) {
			width = max(width, len(r.rows[i].ids)-b.prefix)
		}
	}
	ids = make([]int32, len(b.readings)*width)
	for at, r := range b.readings {
		if i >= len(r.rows) {
			continue
		}
		copy(ids[at*width:], r.rows[i].ids[b.prefix:])
		for _, j := range r.rows[i].continuations {
			c := queries[r.query].Continuations[j]
			for t := c.From; t < len(c.IDs); t++ {
				all = append(all, prediction{at*width + t - 1 - b.prefix, c.IDs[t], &s.all[r.query][j]})
			}
		}
	}
	return ids, all
}

// sources returns what the encoder reads.
func (b batch) sources(pad int) ops.Batch {
	var sources [][]int32
	var lens []int
	for _, r := range b.readings {
		sources, lens = append(sources, padded(r.source, b.source, pad)), append(lens, len(r.source))
	}
	batch := ops.NewBatch(sources...)
	batch.Lens = lens
	return batch
}

// padded returns n tokens.
func padded(ids []int32, n, pad int) []int32 {
	all := make([]int32, n)
	for i := copy(all, ids); i < n; i++ {
		all[i] = int32(max(pad, 0))
	}
	return all
}
