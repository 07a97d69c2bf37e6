// Package text turns text into token ids and back, and corpora into the windows
// that training and evaluation read.
//
// The tokenizer follows Hugging Face's tokenizer.json: the text is cut at added
// tokens, normalized, cut into words by the pre-tokenizer, each word is encoded
// by the model, and the post-processor adds its special tokens.
package text

import (
	"strings"
)

// Tokenizer encodes text as token ids and decodes them. It is immutable once
// loaded and safe for concurrent use.
type Tokenizer struct {
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
// An added token written out in s becomes its id.
func (t *Tokenizer) Encode(s string) []int32 {
	ids := t.EncodePlain(s)
	for _, p := range t.post {
		ids = p.apply(ids)
	}
	return ids
}

// EncodePlain returns the ids of s without the special tokens of the
// post-processor: what the documents of a corpus are encoded with. An added
// token written out in s becomes its id.
func (t *Tokenizer) EncodePlain(s string) []int32 {
	ids := make([]int32, 0, len(s)/3+1)
	add := func(id int32) { ids = append(ids, id) }
	word := func(p piece) { ids = t.encodeWord(ids, p.text) }
	normalized := func(p piece) { t.words.split(p, word) }
	t.added.raw.split(piece{s, true}, add, func(p piece) {
		if t.normalize != nil {
			p.text = t.normalize(p.text)
		}
		t.added.normalized.split(p, add, normalized)
	})
	return ids
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
// has are left out; bytes that are not UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		if s, ok := t.tokens[id]; ok {
			tokens = append(tokens, s)
		}
	}
	if len(t.decoders) == 0 {
		return strings.Join(tokens, " ")
	}
	for _, d := range t.decoders {
		tokens = d.chain(tokens)
	}
	return strings.Join(tokens, "")
}

// TokenBytes returns the bytes that a token stands for within a text, or nil
// for a special token and for an id that no token has.
func (t *Tokenizer) TokenBytes(id int32) []byte {
	s, ok := t.tokens[id]
	if !ok || t.added.special[id] {
		return nil
	}
	for _, d := range t.decoders {
		s = d.token(s)
	}
	return []byte(s)
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
