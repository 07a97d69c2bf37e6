package tokenizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gqa/internal/file"
)

// spaceMark is how SentencePiece writes a space.
const spaceMark = "▁"

// spieceFiles are the names that models' folders give a SentencePiece model.
var spieceFiles = []string{"spiece.model", "tokenizer.model"}

// spieceRules are what a tokenizer class does that the model file does not say.
type spieceRules struct {
	bos, eos  bool // which special tokens a text gets
	legacy    bool // every stretch between special tokens begins with a space, not only the text
	sentinels int  // T5's <extra_id_N>, behind the pieces, the last first
}

// spieceConfig is what is read of tokenizer_config.json, of the classes that read a SentencePiece model.
type spieceConfig struct {
	Class     string                `json:"tokenizer_class"`
	ModelType string                `json:"model_type"` // of config.json
	Legacy    *bool                 `json:"legacy"`
	Sentinels *int                  `json:"extra_ids"`
	AddBOS    *bool                 `json:"add_bos_token"`
	AddEOS    *bool                 `json:"add_eos_token"`
	Added     map[string]addedToken `json:"added_tokens_decoder"`
}

// spiece writes the tokenizer.json that stands for a folder's SentencePiece model, and names in c the special tokens that
// tokenizer_config.json does not. Without such a file, or a class whose rules are known, there is ErrNotFound, or noTokenizer's.
func spiece(dir string, c *configFile) ([]byte, error) {
	config, err := readSpieceConfig(dir)
	if err != nil {
		return nil, err
	}
	rules, known := config.rules()
	for _, name := range spieceFiles {
		path := filepath.Join(dir, name)
		data, err := file.Read(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !known {
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := parseSentencePiece(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		m.nameSpecial(c)
		file, err := m.file(rules, c, config.Added)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return file, nil
	}
	return nil, ErrNotFound
}

func readSpieceConfig(dir string) (c spieceConfig, err error) {
	for _, name := range []string{"config.json", "tokenizer_config.json"} {
		path := filepath.Join(dir, name)
		data, err := file.Read(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = unmarshal(data, &c)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", path, file.Reason(path, err))
		}
	}
	return c, nil
}

// spieceClasses are the tokenizer classes whose rules are known, by their names without Fast; and, where none is named, by
// config.json's model_type.
var spieceClasses = map[string]spieceRules{
	"T5Tokenizer": {eos: true, sentinels: 100}, "MT5Tokenizer": {eos: true}, "t5": {eos: true, sentinels: 100}, "mt5": {eos: true}, "umt5": {eos: true},
	"LlamaTokenizer": {bos: true}, "GemmaTokenizer": {bos: true}, "llama": {bos: true}, "mistral": {bos: true}, "gemma": {bos: true},
}

// maxSentinels bounds what extra_ids can make us allocate.
const maxSentinels = 1 << 16

func (c spieceConfig) rules() (r spieceRules, known bool) {
	class := c.Class
	if n := len(class) - len("Fast"); n > 0 && class[n:] == "Fast" {
		class = class[:n]
	}
	r, known = spieceClasses[cmp.Or(class, c.ModelType)]
	r.legacy = c.Legacy == nil || *c.Legacy
	if c.Sentinels != nil && r.eos {
		r.sentinels = min(max(*c.Sentinels, 0), maxSentinels)
	}
	if r.bos {
		r.bos = c.AddBOS == nil || *c.AddBOS
		r.eos = c.AddEOS != nil && *c.AddEOS
	}
	return r, known
}

// nameSpecial fills in the usual names of special tokens that the model has.
func (m *sentencePiece) nameSpecial(c *configFile) {
	for _, role := range []struct {
		name   *tokenName
		usual  []string
		pieces pieceType
	}{
		{&c.BOS, []string{"<s>", "<bos>"}, controlPiece},
		{&c.EOS, []string{"</s>", "<eos>"}, controlPiece},
		{&c.Pad, []string{"<pad>"}, controlPiece},
		{&c.Unk, []string{""}, unknownPiece},
	} {
		for _, usual := range role.usual {
			if id := m.find(usual, role.pieces); id >= 0 && *role.name == "" {
				*role.name = tokenName(m.pieces[id].text)
			}
		}
	}
}

type object = map[string]any

// file is the model as a tokenizer.json.
func (m *sentencePiece) file(r spieceRules, c *configFile, more map[string]addedToken) ([]byte, error) {
	post, err := m.post(r, c)
	if err != nil {
		return nil, err
	}
	normalizers, pre := m.spaces(r)
	decoders := []object{
		{"type": "Replace", "pattern": object{"String": spaceMark}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
	}
	if m.prefix {
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	added, err := m.added(r, more)
	if err != nil {
		return nil, err
	}
	return json.Marshal(object{
		"added_tokens": added, "normalizer": object{"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": pre,
		"post_processor": post, "decoder": object{"type": "Sequence", "decoders": decoders}, "model": m.model(c),
	})
}

// spaces are the steps that make of a text what SentencePiece's normalizer does.
func (m *sentencePiece) spaces(r spieceRules) (normalizers []object, pre object) {
	normalizers = []object{}
	if len(m.charsmap) > 0 {
		normalizers = append(normalizers, object{"type": "Precompiled", "precompiled_charsmap": m.charsmap})
	}
	if m.collapse {
		normalizers = append(normalizers, object{"type": "Strip", "strip_left": true, "strip_right": true},
			object{"type": "Replace", "pattern": object{"Regex": " {2,}"}, "content": " "})
	}
	scheme := "never"
	switch {
	case m.prefix && r.legacy:
		scheme = "always"
	case m.prefix:
		scheme = "first"
	}
	if m.collapse || scheme == "first" { // no text begins with a space by now, or none gets another
		return normalizers, object{"type": "Metaspace", "replacement": spaceMark, "prepend_scheme": scheme, "split": m.wordwise()}
	}
	if m.prefix {
		normalizers = append(normalizers, object{"type": "Prepend", "prepend": spaceMark})
	}
	return append(normalizers, object{"type": "Replace", "pattern": object{"String": " "}, "content": spaceMark}), nil
}

// post puts the special tokens around a text.
func (m *sentencePiece) post(r spieceRules, c *configFile) (object, error) {
	single, special := []object{{"Sequence": object{"id": "A", "type_id": 0}}}, object{}
	for _, t := range []struct {
		on   bool
		name string
		role string
		at   func() int
	}{
		{r.bos, string(c.BOS), "bos", func() int { return 0 }},
		{r.eos, string(c.EOS), "eos", func() int { return len(single) }},
	} {
		if !t.on {
			continue
		}
		id := m.find(t.name, controlPiece, userPiece)
		if id < 0 || t.name == "" {
			return nil, fmt.Errorf("the model has no piece %q, which texts get: name %s_token in tokenizer_config.json", t.name, t.role)
		}
		single = slices.Insert(single, t.at(), object{"SpecialToken": object{"id": t.name, "type_id": 0}})
		special[t.name] = object{"id": t.name, "ids": []int{id}, "tokens": []string{t.name}}
	}
	return object{"type": "TemplateProcessing", "single": single, "special_tokens": special}, nil
}

// added are the tokens that are found in a text before anything else.
func (m *sentencePiece) added(r spieceRules, more map[string]addedToken) ([]addedToken, error) {
	var all []addedToken
	for id, p := range m.pieces {
		if p.kind == controlPiece || p.kind == unknownPiece || p.kind == userPiece {
			all = append(all, addedToken{ID: int32(id), Content: p.text, Special: p.kind != userPiece})
		}
	}
	for i := range r.sentinels {
		name := fmt.Sprintf("<extra_id_%d>", r.sentinels-1-i)
		all = append(all, addedToken{ID: int32(len(m.pieces) + i), Content: name, Special: true})
	}
	for id, t := range more {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder has %q, want a token's id", id)
		}
		known := func(a addedToken) bool { return a.Content == t.Content }
		if t.ID = int32(n); !slices.ContainsFunc(all, known) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func (m *sentencePiece) model(c *configFile) object {
	if m.kind == unigramModel {
		vocab := make([][2]any, len(m.pieces))
		for i, p := range m.pieces {
			vocab[i] = [2]any{p.text, float64(p.score)}
		}
		model := object{"type": "Unigram", "vocab": vocab, "byte_fallback": m.byteFallback}
		if id := m.find("", unknownPiece); id >= 0 {
			model["unk_id"] = id
		}
		return model
	}
	vocab := make(map[string]int, len(m.pieces))
	for i, p := range m.pieces {
		vocab[p.text] = i
	}
	return object{
		"type": "BPE", "vocab": vocab, "merges": m.merges(), "unk_token": string(c.Unk), "fuse_unk": true, "byte_fallback": m.byteFallback,
	}
}
