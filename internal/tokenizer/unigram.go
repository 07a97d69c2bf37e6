package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// unknownPenalty is the difference between the score of the least likely piece and that of an unknown character
// (SentencePiece's kUnkPenalty).
const unknownPenalty = 10

// unigram splits a word into the pieces with the largest sum of log-probabilities (Kudo 2018).
type unigram struct {
	ids          map[string]int32
	scores       []float64 // by ID
	longest      int       // length of the longest piece in bytes
	unk          int32     // -1: unknown characters are dropped
	unkScore     float64
	byteFallback bool
	byteIDs      [256]int32
}

// scoredPiece decodes ["▁the", -3.2].
type scoredPiece struct {
	text  string
	score float64
}

func (p *scoredPiece) UnmarshalJSON(data []byte) error {
	var list []json.RawMessage
	if unmarshal(data, &list) != nil || len(list) != 2 {
		return fmt.Errorf("piece is %.60s: expected a text and a score", data)
	}
	return errors.Join(unmarshal(list[0], &p.text), unmarshal(list[1], &p.score))
}

func parseUnigram(raw json.RawMessage) (model, map[string]int32, error) {
	var f struct {
		Vocab        []scoredPiece `json:"vocab"`
		Unk          *int32        `json:"unk_id"`
		ByteFallback bool          `json:"byte_fallback"`
	}
	if err := unmarshal(raw, &f); err != nil {
		return nil, nil, err
	}
	u := &unigram{ids: make(map[string]int32, len(f.Vocab)), unk: -1, byteFallback: f.ByteFallback}
	lowest := math.Inf(1)
	for i, p := range f.Vocab {
		u.ids[p.text] = int32(i)
		u.scores = append(u.scores, p.score)
		u.longest = max(u.longest, len(p.text))
		lowest = min(lowest, p.score)
	}
	if f.Unk != nil {
		if *f.Unk < 0 || int(*f.Unk) >= len(f.Vocab) {
			return nil, nil, fmt.Errorf("unk_id is %d: expected the index of one of the %d pieces", *f.Unk, len(f.Vocab))
		}
		u.unk = *f.Unk
	}
	u.unkScore = lowest - unknownPenalty
	u.byteIDs = byteTokens(u.ids)
	return u, u.ids, nil
}

// node is the best path to a position: the start of its last piece (-1 if there is no path yet) and its score.
type node struct {
	start int
	id    int32
	score float64
}

func (u *unigram) encode(dst []int32, word string) []int32 {
	best := u.search(word)
	var parts []string
	unknown := false // the part found last is unknown
	for end := len(word); end > 0; end = best[end].start {
		part := word[best[end].start:end]
		isUnknown := best[end].id == u.unk
		if isUnknown && unknown {
			parts[len(parts)-1] = part + parts[len(parts)-1]
		} else {
			parts = append(parts, part)
		}
		unknown = isUnknown
	}
	for _, part := range slices.Backward(parts) {
		dst = u.appendPart(dst, part)
	}
	return dst
}

// search runs the Viterbi algorithm: best[i] is the best segmentation of word[:i].
func (u *unigram) search(word string) []node {
	best := make([]node, len(word)+1)
	for i := range best {
		best[i].start = -1
	}
	for i, n := 0, 0; i < len(word); i += n {
		_, n = utf8.DecodeRuneInString(word[i:])
		here := best[i].score
		offer := func(end int, id int32, score float64) {
			if b := &best[end]; b.start < 0 || here+score > b.score {
				*b = node{i, id, here + score}
			}
		}
		whole := false // the character at i is itself a piece
		for end := i + 1; end <= min(len(word), i+u.longest); end++ {
			if id, ok := u.ids[word[i:end]]; ok {
				offer(end, id, u.scores[id])
				whole = whole || end == i+n
			}
		}
		if !whole {
			offer(i+n, u.unk, u.unkScore)
		}
	}
	return best
}

func (u *unigram) appendPart(dst []int32, part string) []int32 {
	if id, ok := u.ids[part]; ok {
		return append(dst, id)
	}
	n := len(dst)
	for i := range len(part) {
		dst = append(dst, u.byteIDs[part[i]])
	}
	if u.byteFallback && !slices.Contains(dst[n:], -1) {
		return dst
	}
	if dst = dst[:n]; u.unk >= 0 {
		dst = append(dst, u.unk)
	}
	return dst
}
