package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// wordPiece takes the longest piece that is a prefix of a word, then the longest prefix of the rest, and so on (Devlin
// et al. 2019). A word that cannot be split into pieces is unknown as a whole.
type wordPiece struct {
	vocab    map[string]int32
	unk      int32
	prefix   string // precedes every piece but a word's first
	most     int    // length of the longest piece in bytes
	maxRunes int    // longer words are unknown
}

func parseWordPiece(raw json.RawMessage) (model, map[string]int32, error) {
	f := struct {
		Vocab    map[string]int32 `json:"vocab"`
		Unk      string           `json:"unk_token"`
		Prefix   string           `json:"continuing_subword_prefix"`
		MaxRunes int              `json:"max_input_chars_per_word"`
	}{nil, "[UNK]", "##", 100}
	if err := unmarshal(raw, &f); err != nil {
		return nil, nil, err
	}
	unk, ok := f.Vocab[f.Unk]
	if !ok {
		return nil, nil, fmt.Errorf("unk_token %q is not in the vocabulary", f.Unk)
	}
	if err := checkAffix("continuing_subword_prefix", f.Prefix); err != nil {
		return nil, nil, err
	}
	w := &wordPiece{vocab: f.Vocab, unk: unk, prefix: f.Prefix, maxRunes: f.MaxRunes}
	for piece := range f.Vocab {
		w.most = max(w.most, len(piece))
	}
	return w, f.Vocab, nil
}

func (w *wordPiece) encode(dst []int32, word string) []int32 {
	if utf8.RuneCountInString(word) > w.maxRunes {
		return append(dst, w.unk)
	}
	n := len(dst)
	for start := 0; start < len(word); {
		id, length := w.longest(word[start:], start > 0)
		if length == 0 {
			return append(dst[:n], w.unk)
		}
		dst = append(dst, id)
		start += length
	}
	return dst
}

// longest returns the longest piece that is a prefix of s, and its length in s.
func (w *wordPiece) longest(s string, inside bool) (id int32, length int) {
	for end := min(len(s), w.most); end > 0; {
		piece := s[:end]
		if inside {
			piece = w.prefix + piece
		}
		if id, ok := w.vocab[piece]; ok {
			return id, end
		}
		_, n := utf8.DecodeLastRuneInString(s[:end])
		end -= n
	}
	return 0, 0
}

// wordLevel has an ID for each whole word. Other words become unk or are dropped.
type wordLevel struct {
	vocab map[string]int32
	unk   string
}

func parseWordLevel(raw json.RawMessage) (model, map[string]int32, error) {
	var f struct {
		Vocab map[string]int32 `json:"vocab"`
		Unk   string           `json:"unk_token"`
	}
	if err := unmarshal(raw, &f); err != nil {
		return nil, nil, err
	}
	return &wordLevel{f.Vocab, f.Unk}, f.Vocab, nil
}

func (w *wordLevel) encode(dst []int32, word string) []int32 {
	id, ok := w.vocab[word]
	if !ok {
		id, ok = w.vocab[w.unk]
	}
	if ok {
		dst = append(dst, id)
	}
	return dst
}
