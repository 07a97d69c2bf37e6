package llamacpp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gqa/checkpoints/gguf"
	"gqa/internal/tokenizer"
)

// llama.cpp's token types.
const (
	normal      int32 = 1
	unknown     int32 = 2
	control     int32 = 3 // special: recognised in a prompt only on request, and never printed
	userDefined int32 = 4 // found before anything else, and printed
	unused      int32 = 5
	byteToken   int32 = 6
)

// NoVocab returns the keys of a model without a tokenizer: llama.cpp then accepts token IDs.
func NoVocab() []gguf.Key { return []gguf.Key{{Name: "tokenizer.ggml.model", Value: "none"}} }

// Vocab returns the keys of a tokenizer for a model with rows embeddings, and notes on where llama.cpp's IDs may
// differ.
func Vocab(d *tokenizer.Description, rows int) (keys []gguf.Key, notes []string, err error) {
	d, notes, err = withRows(d, rows)
	if err != nil {
		return nil, nil, err
	}
	v, err := newVocab(d)
	if err != nil {
		return nil, nil, err
	}
	v.notes = append(v.notes, notes...)
	if err := v.addTokens(d, rows); err != nil {
		return nil, nil, err
	}
	keys = []gguf.Key{{Name: "tokenizer.ggml.model", Value: v.model}}
	if v.pre != "" {
		keys = append(keys, gguf.Key{Name: "tokenizer.ggml.pre", Value: v.pre})
	}
	keys = append(keys,
		gguf.Key{Name: "tokenizer.ggml.tokens", Value: v.tokens},
		gguf.Key{Name: "tokenizer.ggml.token_type", Value: v.types})
	if v.score != nil {
		keys = append(keys, gguf.Key{Name: "tokenizer.ggml.scores", Value: v.scores})
	}
	if v.model == "gpt2" {
		keys = append(keys, gguf.Key{Name: "tokenizer.ggml.merges", Value: mergeLines(d.Merges)})
	}
	keys = append(keys, v.extra...)
	special, more := specialKeys(d)
	return append(append(keys, special...), templateKeys(d)...), append(v.notes, more...), nil
}

// withRows drops added tokens beyond the rows of the embedding, with a note: the model cannot read them.
func withRows(d *tokenizer.Description, rows int) (*tokenizer.Description, []string, error) {
	if len(d.Tokens) <= rows {
		return d, nil, nil
	}
	beyond := d.Tokens[rows:]
	own := slices.ContainsFunc(beyond, func(t tokenizer.Token) bool { return !t.Added && t.Text != "" })
	if own || slices.ContainsFunc(slices.Concat(d.Before, d.After), func(id int32) bool { return int(id) >= rows }) {
		return nil, nil, fmt.Errorf("tokenizer.json has ids up to %d, but the embedding has %d rows: the tokenizer belongs to another model", len(d.Tokens)-1, rows)
	}
	kept := *d
	kept.Tokens, kept.Special = d.Tokens[:rows], maps.Clone(d.Special)
	maps.DeleteFunc(kept.Special, func(_ string, id int32) bool { return int(id) >= rows })
	return &kept, []string{fmt.Sprintf("the tokenizer's added tokens from id %d on, such as %q, are left out: the embedding has %d rows", rows, beyond[0].Text, rows)}, nil
}

// vocab is a tokenizer in llama.cpp's terms.
type vocab struct {
	model string // gpt2 (byte-level BPE), llama (SentencePiece BPE), t5 (Unigram) or bert (WordPiece)
	pre   string // for gpt2: the name of its pre-tokenizer
	extra []gguf.Key
	notes []string

	spell func(string) string           // llama.cpp's spelling of a token; nil: unchanged
	score func(tokenizer.Token) float64 // nil if there are no scores

	tokens []string
	types  []int32
	scores []float32
}

// newVocab recognises the kind of tokenizer.
func newVocab(d *tokenizer.Description) (*vocab, error) {
	byteLevel := slices.ContainsFunc(d.PreTokenizer, func(c tokenizer.Component) bool { return c.Type == "ByteLevel" })
	switch {
	case d.Kind == "BPE" && byteLevel:
		return newByteLevel(d)
	case d.Kind == "BPE" && d.ByteFallback:
		return newSentencePiece(d)
	case d.Kind == "Unigram":
		return newUnigram(d)
	case d.Kind == "WordPiece":
		return newWordPiece(d)
	case d.Kind == "BPE":
		return nil, errors.New("tokenizer.json: llama.cpp has no BPE that is neither byte-level nor falls back to bytes")
	}
	return nil, fmt.Errorf("tokenizer.json: llama.cpp has no tokenizer of type %s", d.Kind)
}

// addTokens lists the tokens by ID; unused IDs, up to the embedding's rows, get placeholder names.
func (v *vocab) addTokens(d *tokenizer.Description, rows int) error {
	seen := make(map[string]int, rows)
	for id := range rows {
		name, kind, score := fmt.Sprintf("[PAD%d]", id), unused, 0.0
		if id < len(d.Tokens) && d.Tokens[id].Text != "" {
			t := d.Tokens[id]
			name, kind = t.Text, tokenType(t, v.model)
			if v.spell != nil && !t.Added {
				name = v.spell(name)
			}
			if v.score != nil {
				score = v.score(t)
			}
		}
		if other, twice := seen[name]; twice {
			return fmt.Errorf("tokenizer.json: ids %d and %d are both %q, which llama.cpp rejects", other, id, name)
		}
		seen[name] = id
		v.tokens, v.types, v.scores = append(v.tokens, name), append(v.types, kind), append(v.scores, float32(score))
	}
	return nil
}

func tokenType(t tokenizer.Token, model string) int32 {
	switch {
	case t.Unknown && model != "gpt2":
		return unknown
	case t.Special:
		return control
	case t.Added:
		return userDefined
	case model != "gpt2" && isByte(t.Text):
		return byteToken
	}
	return normal
}

// isByte reports whether a token is one of <0x00> to <0xFF>.
func isByte(token string) bool {
	hex, ok := strings.CutPrefix(token, "<0x")
	return ok && len(hex) == 3 && hex[2] == '>' && strings.Trim(hex[:2], "0123456789ABCDEF") == ""
}

func mergeLines(merges [][2]string) []string {
	lines := make([]string, len(merges))
	for i, m := range merges {
		lines[i] = m[0] + " " + m[1]
	}
	return lines
}

// roleKeys maps the keys of special tokens in tokenizer_config.json to llama.cpp's, one of which is misspelt.
var roleKeys = []struct{ role, key string }{
	{"bos_token", "bos_token_id"},
	{"eos_token", "eos_token_id"},
	{"unk_token", "unknown_token_id"},
	{"sep_token", "seperator_token_id"},
	{"pad_token", "padding_token_id"},
	{"cls_token", "cls_token_id"},
	{"mask_token", "mask_token_id"},
}

// specialKeys returns the keys of the special tokens and of which of them surround a text according to the
// post-processor.
func specialKeys(d *tokenizer.Description) (keys []gguf.Key, notes []string) {
	ids := make(map[string]int32, len(d.Special))
	for role, id := range d.Special {
		ids[role] = id
	}
	unk := slices.IndexFunc(d.Tokens, func(t tokenizer.Token) bool { return t.Unknown })
	if _, named := ids["unk_token"]; !named && unk >= 0 {
		ids["unk_token"] = int32(unk)
	}
	addBOS, ok := surround(ids, "bos_token", d.Before)
	if !ok {
		notes = append(notes, fmt.Sprintf("the tokenizer adds tokens %v before every text, and llama.cpp does not: write them into the prompt", d.Before))
	}
	after := "eos_token"
	if d.Kind == "WordPiece" {
		after = "sep_token"
	}
	addEOS, ok := surround(ids, after, d.After)
	if !ok {
		notes = append(notes, fmt.Sprintf("the tokenizer adds tokens %v after every text, and llama.cpp does not", d.After))
	}
	for _, r := range roleKeys {
		if id, there := ids[r.role]; there {
			keys = append(keys, gguf.Key{Name: "tokenizer.ggml." + r.key, Value: uint32(id)})
		}
	}
	return append(keys,
		gguf.Key{Name: "tokenizer.ggml.add_bos_token", Value: addBOS},
		gguf.Key{Name: "tokenizer.ggml.add_eos_token", Value: addEOS && after == "eos_token"}), notes
}

// surround reports whether llama.cpp is to add role's token at its end of a text, and whether this matches the
// tokenizer. If the tokenizer adds another single token, or the role has none, that token takes the role.
func surround(ids map[string]int32, role string, tokens []int32) (add, same bool) {
	if len(tokens) != 1 {
		return false, len(tokens) == 0
	}
	ids[role] = tokens[0]
	return true, true
}

// templateKeys returns the chat templates.
func templateKeys(d *tokenizer.Description) []gguf.Key {
	var keys []gguf.Key
	if t, ok := d.Templates["default"]; ok {
		keys = append(keys, gguf.Key{Name: "tokenizer.chat_template", Value: t})
	}
	var named []string
	for name := range d.Templates {
		if name != "default" && name != "" {
			named = append(named, name)
		}
	}
	slices.Sort(named)
	for _, name := range named {
		keys = append(keys, gguf.Key{Name: "tokenizer.chat_template." + name, Value: d.Templates[name]})
	}
	if len(named) > 0 {
		keys = append(keys, gguf.Key{Name: "tokenizer.chat_templates", Value: named})
	}
	return keys
}
