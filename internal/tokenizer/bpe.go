package tokenizer

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// bpe is byte-pair encoding (Sennrich et al. 2016): a word starts as its characters, and the adjacent pair with the
// lowest merge rank is joined until no merge applies.
type bpe struct {
	vocab        map[string]int32
	merges       map[pair]merge
	prefix       string // precedes every character but a word's first
	suffix       string // follows a word's last character
	unk          int32  // -1: unknown characters are dropped
	fuseUnk      bool
	byteFallback bool
	ignoreMerges bool
	byteIDs      [256]int32 // IDs of <0x00>…<0xFF>; -1: not in the vocabulary
}

type pair struct{ left, right int32 }

type merge struct{ rank, id int32 }

type bpeFile struct {
	Vocab        map[string]int32 `json:"vocab"`
	Merges       mergeList        `json:"merges"`
	Dropout      *float64         `json:"dropout"`
	Unk          *string          `json:"unk_token"`
	Prefix       string           `json:"continuing_subword_prefix"`
	Suffix       string           `json:"end_of_word_suffix"`
	FuseUnk      bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
}

// mergeList decodes both forms of merges: "a b" and ["a", "b"].
type mergeList [][2]string

func (m *mergeList) UnmarshalJSON(data []byte) error {
	var lines []string
	if unmarshal(data, &lines) != nil {
		return unmarshal(data, (*[][2]string)(m))
	}
	*m = make(mergeList, len(lines))
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("merge %d is %q: expected two tokens with a space between", i, line)
		}
		(*m)[i] = [2]string{left, right}
	}
	return nil
}

func newBPE(f bpeFile) (*bpe, error) {
	if f.Dropout != nil && *f.Dropout != 0 {
		return nil, fmt.Errorf("dropout is %v: only 0 gives reproducible IDs; set it to null", *f.Dropout)
	}
	if err := cmp.Or(checkAffix("continuing_subword_prefix", f.Prefix), checkAffix("end_of_word_suffix", f.Suffix)); err != nil {
		return nil, err
	}
	b := &bpe{
		vocab: f.Vocab, prefix: f.Prefix, suffix: f.Suffix, unk: -1,
		fuseUnk: f.FuseUnk, byteFallback: f.ByteFallback, ignoreMerges: f.IgnoreMerges,
	}
	if f.Unk != nil && *f.Unk != "" {
		id, ok := f.Vocab[*f.Unk]
		if !ok {
			return nil, fmt.Errorf("unk_token %q is not in the vocabulary", *f.Unk)
		}
		b.unk = id
	}
	b.byteIDs = byteTokens(f.Vocab)
	return b, b.addMerges(f.Merges)
}

// checkAffix limits the length of an affix, which is added to each character of a word before it is looked up.
func checkAffix(name, affix string) error {
	const most = 256
	if len(affix) > most {
		return fmt.Errorf("%s has %d bytes, want at most %d", name, len(affix), most)
	}
	return nil
}

// byteTokens returns the IDs of the tokens <0x00>…<0xFF> used by byte_fallback.
func byteTokens(vocab map[string]int32) (ids [256]int32) {
	for i := range ids {
		id, ok := vocab[fmt.Sprintf("<0x%02X>", i)]
		if !ok {
			id = -1
		}
		ids[i] = id
	}
	return ids
}

func (b *bpe) addMerges(list mergeList) error {
	b.merges = make(map[pair]merge, len(list))
	for i, m := range list {
		tail, ok := strings.CutPrefix(m[1], b.prefix)
		if !ok {
			return fmt.Errorf("merge %d (%q %q): the second token lacks the prefix %q", i, m[0], m[1], b.prefix)
		}
		var ids [3]int32
		for j, token := range []string{m[0], m[1], m[0] + tail} {
			if ids[j], ok = b.vocab[token]; !ok {
				return fmt.Errorf("merge %d (%q %q): %q is not in the vocabulary", i, m[0], m[1], token)
			}
		}
		b.merges[pair{ids[0], ids[1]}] = merge{int32(i), ids[2]}
	}
	return nil
}

func (b *bpe) encode(dst []int32, word string) []int32 {
	if b.ignoreMerges {
		if id, ok := b.vocab[word]; ok {
			return append(dst, id)
		}
	}
	m := mergers.Get().(*merger)
	defer mergers.Put(m)
	m.reset()
	b.characters(m, word)
	m.run(b.merges)
	return m.appendIDs(dst)
}

// characters appends the initial symbols of word.
func (b *bpe) characters(m *merger, word string) {
	unknown := false // b.unk has yet to be appended
	for i := 0; i < len(word); {
		_, n := utf8.DecodeRuneInString(word[i:])
		id, ok := b.vocab[b.affixed(word, i, i+n)]
		char := word[i : i+n]
		i += n
		if !ok && b.byteFallback && b.appendBytes(m, char) {
			continue
		}
		if unknown && (ok || !b.fuseUnk) {
			m.add(b.unk)
			unknown = false
		}
		if ok {
			m.add(id)
		} else {
			unknown = b.unk >= 0
		}
	}
	if unknown {
		m.add(b.unk)
	}
}

// affixed returns the character word[i:j] with its affixes.
func (b *bpe) affixed(word string, i, j int) string {
	s := word[i:j]
	if i > 0 && b.prefix != "" {
		s = b.prefix + s
	}
	if j == len(word) && b.suffix != "" {
		s += b.suffix
	}
	return s
}

// appendBytes appends the byte tokens of a character, if all of them exist.
func (b *bpe) appendBytes(m *merger, char string) bool {
	for i := range len(char) {
		if b.byteIDs[char[i]] < 0 {
			return false
		}
	}
	for i := range len(char) {
		m.add(b.byteIDs[char[i]])
	}
	return true
}

var mergers = sync.Pool{New: func() any { return new(merger) }}
