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

// spaceMark stands for a space in SentencePiece.
const spaceMark = "▁"

// spieceFiles are the usual file names of a SentencePiece model.
var spieceFiles = []string{"spiece.model", "tokenizer.model"}

// spieceRules are the parts of a tokenizer class that are not in the model file.
type spieceRules struct {
	bos, eos  bool // special tokens added to a text
	legacy    bool // a space is added after every special token, not only at the start of the text
	sentinels int  // number of T5's <extra_id_N> tokens, which follow the pieces in decreasing order of N
}

// spieceConfig holds the fields used from tokenizer_config.json for classes that read a SentencePiece model.
type spieceConfig struct {
	Class     string                `json:"tokenizer_class"`
	ModelType string                `json:"model_type"` // from config.json
	Legacy    *bool                 `json:"legacy"`
	Sentinels *int                  `json:"extra_ids"`
	AddBOS    *bool                 `json:"add_bos_token"`
	AddEOS    *bool                 `json:"add_eos_token"`
	Added     map[string]addedToken `json:"added_tokens_decoder"`
}

// spiece returns a tokenizer.json equivalent to a folder's SentencePiece model, and sets the special tokens in c that
// tokenizer_config.json does not name. If there is no such model, or no class with known rules, it returns ErrNotFound
// or the error of noTokenizer.
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

// spieceClasses are the tokenizer classes with known rules, by name without Fast and, if no class is named, by
// config.json's model_type.
var spieceClasses = map[string]spieceRules{
	"T5Tokenizer": {eos: true, sentinels: 100}, "MT5Tokenizer": {eos: true}, "t5": {eos: true, sentinels: 100}, "mt5": {eos: true}, "umt5": {eos: true},
	"LlamaTokenizer": {bos: true}, "GemmaTokenizer": {bos: true}, "llama": {bos: true}, "mistral": {bos: true}, "gemma": {bos: true},
}

// maxSentinels limits the memory allocated because of extra_ids.
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

// nameSpecial sets the usual names of special tokens that the model has.
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

// file returns the model as a tokenizer.json.
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

// spaces returns the steps equivalent to SentencePiece's normalizer.
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
	if m.collapse || scheme == "first" { // by now no text begins with a space, or none gets another
		return normalizers, object{"type": "Metaspace", "replacement": spaceMark, "prepend_scheme": scheme, "split": m.wordwise()}
	}
	if m.prefix {
		normalizers = append(normalizers, object{"type": "Prepend", "prepend": spaceMark})
	}
	return append(normalizers, object{"type": "Replace", "pattern": object{"String": " "}, "content": spaceMark}), nil
}

// post returns the post-processor that adds special tokens around a text.
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
			return nil, fmt.Errorf("the model has no piece %q, which is added to texts: name %s_token in tokenizer_config.json", t.name, t.role)
		}
		single = slices.Insert(single, t.at(), object{"SpecialToken": object{"id": t.name, "type_id": 0}})
		special[t.name] = object{"id": t.name, "ids": []int{id}, "tokens": []string{t.name}}
	}
	return object{"type": "TemplateProcessing", "single": single, "special_tokens": special}, nil
}

// added returns the tokens that are found in a text before anything else.
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
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder has %q, want a token's ID", id)
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
