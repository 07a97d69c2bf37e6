package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gqa/internal/file"
)

// Description is a tokenizer as data, as needed to write it in another format.
type Description struct {
	Kind   string // model type: BPE, Unigram, WordPiece or WordLevel
	Tokens []Token
	Merges [][2]string // for BPE, by rank

	ByteFallback, IgnoreMerges bool
	Prefix, Suffix             string // for BPE and WordPiece: Prefix precedes every piece of a word but the first, Suffix follows the last

	Normalizer, PreTokenizer []Component // with sequences flattened

	Before, After []int32           // tokens that the post-processor adds around a text
	Special       map[string]int32  // by role in tokenizer_config.json: bos_token, pad_token …
	Templates     map[string]string // chat templates by name; "default" is the default

	ids map[string]int32 // by text
}

// Token describes the token of an ID.
type Token struct {
	Text    string // empty if no token has the ID
	Score   float64
	Added   bool // found in the text before anything else
	Special bool // an added token that stands for no text
	Unknown bool // the token for unknown text
}

// Component is one step of a normalizer or pre-tokenizer.
type Component struct {
	Type string
	Raw  json.RawMessage // as in tokenizer.json, including the type
}

// Describe reads the tokenizer of a model folder with the same checks as Load. The error wraps ErrNotFound if there is
// none.
func Describe(dir string) (*Description, error) {
	if _, err := Load(dir); err != nil {
		return nil, err
	}
	data, path, config, err := readTokenizer(dir)
	if err != nil {
		return nil, err
	}
	d, err := describe(data)
	if err == nil {
		err = d.addConfig(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d.addNamed(config)
	return d, nil
}

// modelFile holds the fields common to all kinds of model.
type modelFile struct {
	Type         string          `json:"-"` // set by modelKind
	Vocab        json.RawMessage `json:"vocab"`
	Merges       mergeList       `json:"merges"`
	Unk          *string         `json:"unk_token"`
	UnkID        *int32          `json:"unk_id"`
	Prefix       string          `json:"continuing_subword_prefix"`
	Suffix       string          `json:"end_of_word_suffix"`
	ByteFallback bool            `json:"byte_fallback"`
	IgnoreMerges bool            `json:"ignore_merges"`
}

func describe(data []byte) (*Description, error) {
	var f tokenizerFile
	if err := unmarshal(data, &f); err != nil {
		return nil, err
	}
	var m modelFile
	if err := unmarshal(f.Model, &m); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	kind, err := modelKind(f.Model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	m.Type = kind
	d := &Description{
		Kind: kind, Merges: m.Merges, ByteFallback: m.ByteFallback, IgnoreMerges: m.IgnoreMerges, Prefix: m.Prefix, Suffix: m.Suffix,
		Special: map[string]int32{}, Templates: map[string]string{}, ids: map[string]int32{},
	}
	if err := d.addVocab(m); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	for _, t := range f.AddedTokens {
		if err := d.addAdded(t); err != nil {
			return nil, err
		}
	}
	if d.Normalizer, err = components(f.Normalizer, "normalizers"); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if d.PreTokenizer, err = components(f.PreTokenizer, "pretokenizers"); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	post, err := parsePost(f.PostProcessor)
	for _, t := range post {
		d.Before, d.After = append(slices.Clone(t.before), d.Before...), append(d.After, t.after...)
	}
	return d, err
}

// addVocab reads the model's own tokens: a map to IDs or, for Unigram, a list of pieces and scores.
func (d *Description) addVocab(m modelFile) error {
	if m.Type == "Unigram" {
		var pieces []scoredPiece
		if err := unmarshal(m.Vocab, &pieces); err != nil {
			return err
		}
		for i, p := range pieces {
			d.ids[p.text] = int32(i)
			d.Tokens = append(d.Tokens, Token{Text: p.text, Score: p.score, Unknown: m.UnkID != nil && int(*m.UnkID) == i})
		}
		return nil
	}
	var vocab map[string]int32
	if err := unmarshal(m.Vocab, &vocab); err != nil {
		return err
	}
	d.ids = vocab
	for text, id := range vocab {
		if err := d.grow(id, text); err != nil {
			return err
		}
		t := &d.Tokens[id]
		if t.Text == "" || text < t.Text { // if two tokens share an ID, always keep the same one
			*t = Token{Text: text, Unknown: m.Unk != nil && text == *m.Unk}
		}
	}
	return nil
}

// maxTokens limits the memory allocated because of an ID.
const maxTokens = 1 << 24

func (d *Description) grow(id int32, text string) error {
	if id < 0 || id >= maxTokens {
		return fmt.Errorf("token %q has id %d, want 0 to %d", text, id, maxTokens-1)
	}
	if n := int(id) + 1 - len(d.Tokens); n > 0 {
		d.Tokens = append(d.Tokens, make([]Token, n)...)
	}
	return nil
}

// addAdded adds or marks an added token; one that is also in the model's vocabulary keeps the model's ID.
func (d *Description) addAdded(t addedToken) error {
	if id, ok := d.ids[t.Content]; ok {
		t.ID = id
	}
	if err := d.grow(t.ID, t.Content); err != nil {
		return err
	}
	d.ids[t.Content] = t.ID
	old := d.Tokens[t.ID]
	d.Tokens[t.ID] = Token{Text: t.Content, Score: old.Score, Added: true, Special: t.Special, Unknown: old.Unknown}
	return nil
}

// components flattens nested sequences.
func components(raw json.RawMessage, key string) ([]Component, error) {
	kind, err := kindOf(raw)
	switch {
	case err != nil || kind == "":
		return nil, err
	case kind == "Sequence":
		return parseSequence(raw, key, func(part json.RawMessage) ([]Component, error) { return components(part, key) })
	}
	return []Component{{kind, raw}}, nil
}

// specialRoles are the keys for special tokens in tokenizer_config.json.
var specialRoles = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// addConfig reads the names of special tokens and the chat templates beside tokenizer.json.
func (d *Description) addConfig(dir string) error {
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json"} {
		keys, err := readObject(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		d.addSpecial(keys)
		if err := d.addTemplates(keys["chat_template"]); err != nil {
			return fmt.Errorf("%s: chat_template: %w", name, err)
		}
	}
	template, err := file.Read(filepath.Join(dir, "chat_template.jinja")) // since transformers 4.52
	if err == nil {
		d.Templates["default"] = string(template)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return err
}

func (d *Description) addSpecial(keys map[string]json.RawMessage) {
	for _, role := range specialRoles {
		var name tokenName
		if unmarshal(keys[role], &name) == nil {
			d.nameSpecial(role, name)
		}
	}
}

// nameSpecial assigns a token to a role, unless the role already has one or there is no such token.
func (d *Description) nameSpecial(role string, name tokenName) {
	if _, known := d.Special[role]; known {
		return
	}
	if id, ok := d.ids[string(name)]; ok {
		d.Special[role] = id
	}
}

// addNamed assigns the special tokens named by a SentencePiece model that no file assigns.
func (d *Description) addNamed(c configFile) {
	for role, name := range map[string]tokenName{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.Unk, "pad_token": c.Pad} {
		d.nameSpecial(role, name)
	}
}

// addTemplates reads a single template, or a list of named ones.
func (d *Description) addTemplates(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var one string
	if unmarshal(raw, &one) == nil {
		d.Templates["default"] = one
		return nil
	}
	var list []struct{ Name, Template string }
	err := unmarshal(raw, &list)
	for _, t := range list {
		d.Templates[t.Name] = t.Template
	}
	return err
}

// readObject returns the keys of a JSON file; none if the file does not exist.
func readObject(path string) (map[string]json.RawMessage, error) {
	data, err := file.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
