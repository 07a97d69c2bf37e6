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

// Description is a tokenizer as data: what another format needs to write it.
type Description struct {
	Kind   string // the model: BPE, Unigram, WordPiece or WordLevel
	Tokens []Token
	Merges [][2]string // of BPE, in order of rank

	ByteFallback, IgnoreMerges bool
	Prefix, Suffix             string // of BPE and WordPiece: before every piece of a word but the first, after the last

	Normalizer, PreTokenizer []Component // sequences taken apart

	Before, After []int32           // what the post-processor puts around a text
	Special       map[string]int32  // by role, as tokenizer_config.json names it: bos_token, pad_token …
	Templates     map[string]string // chat templates by name; "default" is the usual one

	ids map[string]int32 // by text
}

// Token is one id's token.
type Token struct {
	Text    string // empty: no token has the id
	Score   float64
	Added   bool // found in the text before anything else
	Special bool // an added token that stands for no text
	Unknown bool // what the model gives where it knows no token
}

// Component is one step of a normalizer or pre-tokenizer.
type Component struct {
	Type string
	Raw  json.RawMessage // as tokenizer.json has it, type included
}

// Describe reads the tokenizer of a model folder, as Load does, and checks as much. ErrNotFound is wrapped by the
// error where the folder has none.
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

// modelFile is what a description takes from every kind of model.
type modelFile struct {
	Type         string          `json:"-"` // as modelKind finds it
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

// addVocab reads the model's own tokens: a map to ids or, for Unigram, a list of pieces and scores.
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
		if t.Text == "" || text < t.Text { // of two tokens with one id, the same one each time
			*t = Token{Text: text, Unknown: m.Unk != nil && text == *m.Unk}
		}
	}
	return nil
}

// maxTokens bounds what an id can make us allocate.
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

// addAdded marks or adds an added token; one that the model's vocabulary has too keeps the model's id.
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

// components takes sequences apart, at any depth.
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

// specialRoles are the keys by which tokenizer_config.json names special tokens.
var specialRoles = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// addConfig reads the names of special tokens and the chat templates that lie beside tokenizer.json.
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
	template, err := file.Read(filepath.Join(dir, "chat_template.jinja")) // transformers from 4.52 on
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

// nameSpecial has a token be that of a role, unless the role has one or the token is none.
func (d *Description) nameSpecial(role string, name tokenName) {
	if _, known := d.Special[role]; known {
		return
	}
	if id, ok := d.ids[string(name)]; ok {
		d.Special[role] = id
	}
}

// addNamed takes the special tokens that a SentencePiece model names, where no file does.
func (d *Description) addNamed(c configFile) {
	for role, name := range map[string]tokenName{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.Unk, "pad_token": c.Pad} {
		d.nameSpecial(role, name)
	}
}

// addTemplates reads one template, or a list of named ones.
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

// readObject reads a JSON file's keys; a file that is not there has none.
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
