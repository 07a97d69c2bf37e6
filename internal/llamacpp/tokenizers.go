package llamacpp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gqa/checkpoints/gguf"
	"gqa/internal/tokenizer"
)

// newByteLevel describes GPT-2's kind of tokenizer: llama.cpp needs to know how it splits words, and does not
// normalise.
func newByteLevel(d *tokenizer.Description) (*vocab, error) {
	if d.Prefix != "" || d.Suffix != "" {
		return nil, errors.New("tokenizer.json: llama.cpp has no BPE with continuing_subword_prefix or end_of_word_suffix")
	}
	v := &vocab{model: "gpt2"}
	for _, n := range d.Normalizer {
		if n.Type != "NFC" {
			return nil, fmt.Errorf("tokenizer.json: llama.cpp's BPE has no normalizer %s", n.Type)
		}
		v.notes = append(v.notes, "llama.cpp does not normalise text to NFC, as the tokenizer does: give it text that is")
	}
	var err error
	v.pre, err = preTokenizer(d)
	return v, err
}

// newSentencePiece describes BPE as trained by SentencePiece. llama.cpp joins the adjacent pair whose token has the
// highest score, whereas tokenizer.json ranks merges: minus the rank is such a score.
func newSentencePiece(d *tokenizer.Description) (*vocab, error) {
	prefix, notes, err := spacePrefix(d)
	if err != nil {
		return nil, err
	}
	ranks := make(map[string]int, len(d.Merges))
	for rank, m := range d.Merges {
		if _, known := ranks[m[0]+m[1]]; !known {
			ranks[m[0]+m[1]] = rank
		}
	}
	score := func(t tokenizer.Token) float64 {
		if rank, ok := ranks[t.Text]; ok {
			return float64(-rank)
		}
		return float64(-len(d.Merges)) // no merge produces it
	}
	if n := missingMerges(d); n > 0 {
		notes = append(notes, fmt.Sprintf("tokenizer.json lacks %d merges of tokens in its vocabulary, which llama.cpp applies anyway: some words are split differently", n))
	}
	extra := []gguf.Key{{Name: "tokenizer.ggml.add_space_prefix", Value: prefix}}
	return &vocab{model: "llama", pre: "default", extra: extra, notes: notes, score: score}, nil
}

// missingMerges counts the pairs of tokens that form a token together but have no merge. A tokenizer trained by
// SentencePiece has none.
func missingMerges(d *tokenizer.Description) (n int) {
	tokens, merges := make(map[string]bool, len(d.Tokens)), make(map[[2]string]bool, len(d.Merges))
	for _, t := range d.Tokens {
		tokens[t.Text] = !t.Added && !isByte(t.Text)
	}
	for _, m := range d.Merges {
		merges[m] = true
	}
	for whole, plain := range tokens {
		for i := range whole {
			if left, right := whole[:i], whole[i:]; plain && tokens[left] && tokens[right] && !merges[[2]string{left, right}] {
				n++
			}
		}
	}
	return n
}

// mark stands for a space in SentencePiece.
const mark = "▁"

// spacePrefix reports whether a space is added before a text. It recognises the ways in which tokenizer.json marks
// spaces, and rejects others.
func spacePrefix(d *tokenizer.Description) (prefix bool, notes []string, err error) {
	for _, c := range append(d.Normalizer, d.PreTokenizer...) {
		var f struct {
			Prepend, Content, Replacement string
			Pattern                       struct{ String string }
			Scheme                        string `json:"prepend_scheme"`
			AddPrefixSpace                *bool  `json:"add_prefix_space"`
		}
		if err := json.Unmarshal(c.Raw, &f); err != nil {
			return false, nil, err
		}
		switch {
		case c.Type == "Prepend" && f.Prepend == mark:
			prefix = true
		case c.Type == "Replace" && f.Pattern.String == " " && f.Content == mark:
		case c.Type == "Split" && f.Pattern.String == " ": // by then there are no spaces left
		case c.Type == "Metaspace" && f.Replacement == mark:
			prefix = f.Scheme != "never" && (f.AddPrefixSpace == nil || *f.AddPrefixSpace)
			if prefix {
				notes = append(notes, "llama.cpp also adds a space before a text that begins with one; the tokenizer does not")
			}
			if f.Scheme == "first" {
				notes = append(notes, "llama.cpp adds a space after every special token; the tokenizer adds one only at the start")
			}
		default:
			return false, nil, fmt.Errorf("tokenizer.json: llama.cpp's SentencePiece tokenizers do not support this %s: %.100s", c.Type, c.Raw)
		}
	}
	return prefix, notes, nil
}

// newUnigram describes SentencePiece's other model, as in T5.
func newUnigram(d *tokenizer.Description) (*vocab, error) {
	if d.ByteFallback {
		return nil, errors.New("tokenizer.json: llama.cpp's Unigram has no byte_fallback")
	}
	v := &vocab{model: "t5", pre: "default", score: func(t tokenizer.Token) float64 { return t.Score }}
	rest := *d
	rest.Normalizer, rest.PreTokenizer = nil, nil
	trim := false
	for _, c := range append(d.Normalizer, d.PreTokenizer...) {
		switch c.Type {
		case "Precompiled":
			charsmap, err := precompiled(c.Raw)
			if err != nil {
				return nil, fmt.Errorf("tokenizer.json: normalizer: %w", err)
			}
			v.extra = append(v.extra, gguf.Key{Name: "tokenizer.ggml.precompiled_charsmap", Value: charsmap})
		case "WhitespaceSplit", "Strip":
			trim = true
		default:
			if strings.Contains(string(c.Raw), `{2,}`) { // Replace: collapses runs of spaces
				trim = true
				continue
			}
			rest.PreTokenizer = append(rest.PreTokenizer, c)
		}
	}
	prefix, notes, err := spacePrefix(&rest)
	v.notes = notes
	v.extra = append(v.extra,
		gguf.Key{Name: "tokenizer.ggml.add_space_prefix", Value: prefix},
		gguf.Key{Name: "tokenizer.ggml.remove_extra_whitespaces", Value: trim})
	return v, err
}

func precompiled(raw json.RawMessage) ([]byte, error) {
	var f struct {
		Charsmap string `json:"precompiled_charsmap"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(f.Charsmap)
}

// newWordPiece describes BERT's tokenizer. llama.cpp always lowercases and strips accents, and marks the first piece of
// a word where tokenizer.json marks the others.
func newWordPiece(d *tokenizer.Description) (*vocab, error) {
	for _, c := range d.Normalizer {
		f := struct {
			Lowercase bool
			Accents   *bool `json:"strip_accents"`
		}{true, nil}
		if err := json.Unmarshal(c.Raw, &f); err != nil {
			return nil, err
		}
		if c.Type != "BertNormalizer" || !f.Lowercase || f.Accents != nil && !*f.Accents {
			return nil, fmt.Errorf("tokenizer.json: llama.cpp's WordPiece always lowercases and strips accents; this one's normalizer is %.100s", c.Raw)
		}
	}
	if len(d.PreTokenizer) != 1 || d.PreTokenizer[0].Type != "BertPreTokenizer" || len(d.Normalizer) == 0 {
		return nil, errors.New("tokenizer.json: llama.cpp's WordPiece requires BertNormalizer and BertPreTokenizer")
	}
	spell := func(token string) string {
		if rest, ok := strings.CutPrefix(token, d.Prefix); ok {
			return rest
		}
		return mark + token
	}
	return &vocab{model: "bert", pre: "default", spell: spell}, nil
}
