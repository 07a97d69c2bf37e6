// Package tokenizer turns text into token ids and back.
//
// The tokenizer follows Hugging Face's tokenizer.json: the text is cut at added
// tokens, normalized, cut into words by the pre-tokenizer, each word is encoded
// by the model, and the post-processor adds its special tokens.
package tokenizer

import (
	"slices"
	"strings"
)

// Tokenizer encodes text as token ids and decodes them. It is immutable once
// loaded and safe for concurrent use.
type Tokenizer struct {
	path      string // of its file, for errors
	added     addedTokens
	normalize normalizer // nil: none
	words     sequence
	bytes     bool // words reach the model with their bytes as visible runes
	model     model
	cache     *wordCache
	post      []template
	decoders  []decoder        // none: tokens are joined by spaces
	ids       map[string]int32 // the model's vocabulary
	tokens    map[int32]string // the model's and the added tokens by id
	size      int
	eos       int32 // -1: none
}

// model encodes one word, appending its ids to dst.
type model interface {
	encode(dst []int32, word string) []int32
}

// piece is a stretch of text on its way to the model.
type piece struct {
	text  string
	start bool // text begins the input
}

// Encode returns the ids of s with the special tokens of the post-processor.
// An added token written out in s becomes its id. It is an error if a pattern of
// the tokenizer takes too long, or its normalizer makes too much of s.
func (t *Tokenizer) Encode(s string) ([]int32, error) {
	ids, err := t.EncodePlain(s)
	for _, p := range t.post {
		ids = p.apply(ids)
	}
	return ids, err
}

// EncodePlain returns the ids of s without the special tokens of the
// post-processor: what the documents of a corpus are encoded with. An added
// token written out in s becomes its id.
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

// normalized is s as the normalizer leaves it.
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

// Decode returns the text of ids, special tokens included. Ids that no token
// has are left out; bytes that are not UTF-8 become U+FFFD. Errors are those of
// [Tokenizer.Encode].
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

// size is the bytes of all tokens together.
func size(tokens []string) (n int) {
	for _, s := range tokens {
		n += len(s)
	}
	return n
}

// TokenBytes returns the bytes that a token stands for within a text, or nil
// for a special token and for an id that no token has. Errors are those of
// [Tokenizer.Encode].
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

// VocabSize is one more than the largest id, the rows an embedding table needs
// at least.
func (t *Tokenizer) VocabSize() int { return t.size }

// EOS is the id of the end-of-text token, and whether there is one: the
// eos_token of tokenizer_config.json, else the first of the usual names that
// the vocabulary holds.
func (t *Tokenizer) EOS() (int32, bool) { return t.eos, t.eos >= 0 }

// ID is the id of a token by its text, and whether there is one.
func (t *Tokenizer) ID(token string) (int32, bool) { return t.id(token) }

// Token is the token of an id, "" if there is none.
func (t *Tokenizer) Token(id int32) string { return t.tokens[id] }

// id finds a token by its text.
func (t *Tokenizer) id(token string) (int32, bool) {
	if id, ok := t.added.ids[token]; ok {
		return id, true
	}
	id, ok := t.ids[token]
	return id, ok
}

var endOfText = []string{"<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"}

// findEOS takes named, the token that the configuration names, or the first
// usual one.
func (t *Tokenizer) findEOS(named string) {
	t.eos = -1
	for _, name := range append([]string{named}, endOfText...) {
		if id, ok := t.id(name); ok && name != "" {
			t.eos = id
			return
		}
	}
}

// EncodeRest is EncodePlain for a text that continues another, which best ended in a line
// feed: s is encoded behind a line feed whose own ids are then removed, so what a tokenizer
// puts at the start of a text does not get in.
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
