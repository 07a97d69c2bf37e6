// Package tokenizer converts text to token IDs and back.
//
// It implements Hugging Face's tokenizer.json: the text is split at added tokens, normalized, and split into words by
// the pre-tokenizer; the model encodes each word, and the post-processor adds special tokens.
package tokenizer

import (
	"slices"
	"strings"
)

// Tokenizer encodes text as token IDs and decodes them. It is immutable once loaded and safe for concurrent use.
type Tokenizer struct {
	path      string // path of its file, for errors
	added     addedTokens
	normalize normalizer // nil: none
	words     sequence
	bytes     bool // the model receives bytes as visible runes
	model     model
	cache     *wordCache
	post      []template
	decoders  []decoder        // if empty, tokens are joined by spaces
	ids       map[string]int32 // the model's vocabulary
	tokens    map[int32]string // the model's and the added tokens, by ID
	size      int
	eos       int32 // -1: none
}

// model encodes one word, appending its IDs to dst.
type model interface {
	encode(dst []int32, word string) []int32
}

// piece is a piece of text on its way to the model.
type piece struct {
	text  string
	start bool // text is at the start of the input
}

// Encode returns the IDs of s with the special tokens of the post-processor. An added token that occurs in s is encoded
// as its ID. It is an error if a pattern of the tokenizer takes too long, or if its normalizer expands s too much.
func (t *Tokenizer) Encode(s string) ([]int32, error) {
	ids, err := t.EncodePlain(s)
	for _, p := range t.post {
		ids = p.apply(ids)
	}
	return ids, err
}

// EncodePlain returns the IDs of s without the special tokens of the post-processor. Corpora are encoded this way. An
// added token that occurs in s is encoded as its ID.
func (t *Tokenizer) EncodePlain(s string) (ids []int32, err error) {
	defer t.catch(&err)
	ids = make([]int32, 0, len(s)/3+1)
	add := func(id int32) { ids = append(ids, id) }
	word := func(p piece) { ids = t.encodeWord(ids, p.text) }
	normalized := func(p piece) { t.words.split(p, word) }
	t.added.raw.split(piece{s, true}, add, func(p piece) {
		p.text = t.normalized(p.text)
		t.added.normalized.split(p, add, normalized)
	})
	return ids, nil
}

// normalized returns s after the normalizer.
func (t *Tokenizer) normalized(s string) string {
	if t.normalize == nil {
		return s
	}
	return t.normalize(s, growthOf(s))
}

func (t *Tokenizer) encodeWord(dst []int32, word string) []int32 {
	if ids, ok := t.cache.get(word); ok {
		return append(dst, ids...)
	}
	n, seen := len(dst), word
	if t.bytes {
		seen = visible(word)
	}
	dst = t.model.encode(dst, seen)
	t.cache.put(word, dst[n:])
	return dst
}

// Decode returns the text of ids, including special tokens. It skips IDs without a token, and replaces invalid UTF-8 by
// U+FFFD. It fails as [Tokenizer.Encode] does.
func (t *Tokenizer) Decode(ids []int32) (text string, err error) {
	defer t.catch(&err)
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		if s, ok := t.tokens[id]; ok {
			tokens = append(tokens, s)
		}
	}
	if len(t.decoders) == 0 {
		return strings.Join(tokens, " "), nil
	}
	limit := growthOf(strings.Join(tokens, ""))
	for _, d := range t.decoders {
		tokens = d.chain(tokens)
		checkGrowth(size(tokens), limit)
	}
	return strings.Join(tokens, ""), nil
}

// size returns the total length of tokens in bytes.
func size(tokens []string) (n int) {
	for _, s := range tokens {
		n += len(s)
	}
	return n
}

// TokenBytes returns the bytes that a token stands for within a text, or nil for a special token or an ID without a
// token. It fails as [Tokenizer.Encode] does.
func (t *Tokenizer) TokenBytes(id int32) (bytes []byte, err error) {
	defer t.catch(&err)
	s, ok := t.tokens[id]
	if !ok || t.added.special[id] {
		return nil, nil
	}
	limit := growthOf(s)
	for _, d := range t.decoders {
		s = d.token(s)
		checkGrowth(len(s), limit)
	}
	return []byte(s), nil
}

// VocabSize returns one more than the largest ID, the minimum number of rows of an embedding table.
func (t *Tokenizer) VocabSize() int { return t.size }

// EOS returns the ID of the end-of-text token, and reports whether there is one: the eos_token of
// tokenizer_config.json, or else the first of the usual names in the vocabulary.
func (t *Tokenizer) EOS() (int32, bool) { return t.eos, t.eos >= 0 }

// ID returns the ID of the token with the given text, and reports whether there is one.
func (t *Tokenizer) ID(token string) (int32, bool) { return t.id(token) }

// Token returns the token with the given ID, or "" if there is none.
func (t *Tokenizer) Token(id int32) string { return t.tokens[id] }

// id looks up a token by its text.
func (t *Tokenizer) id(token string) (int32, bool) {
	if id, ok := t.added.ids[token]; ok {
		return id, true
	}
	id, ok := t.ids[token]
	return id, ok
}

var endOfText = []string{"<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"}

// findEOS sets the end-of-text token to named, the configured token, or to the first usual one.
func (t *Tokenizer) findEOS(named string) {
	t.eos = -1
	for _, name := range append([]string{named}, endOfText...) {
		if id, ok := t.id(name); ok && name != "" {
			t.eos = id
			return
		}
	}
}

// EncodeRest is like EncodePlain for the continuation of a text, which preferably ended in a line feed: it encodes s
// after a line feed and removes the IDs of that, so that nothing is added that the tokenizer adds at the start of a
// text.
func (t *Tokenizer) EncodeRest(s string) ([]int32, error) {
	lead, err := t.EncodePlain("\n")
	if err != nil {
		return nil, err
	}
	ids, err := t.EncodePlain("\n" + s)
	if err != nil || len(ids) >= len(lead) && slices.Equal(ids[:len(lead)], lead) {
		return ids[min(len(lead), len(ids)):], err
	}
	return t.EncodePlain(s)
}
