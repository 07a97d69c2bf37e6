package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/internal/file"
)

// tokenizerFile is tokenizer.json. Its truncation and padding apply to batches, do not affect the IDs of a text, and
// are ignored.
type tokenizerFile struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// Load reads the tokenizer of a model folder: tokenizer.json, or else a SentencePiece model (spiece.model,
// tokenizer.model), as in T5 and Llama, or vocab.json and merges.txt, as in GPT-2. dir may also be the path of a
// tokenizer.json. A tokenizer_config.json beside it may name the end-of-text token. A component of an unknown type is
// an error that names it.
func Load(dir string) (*Tokenizer, error) {
	data, path, config, err := readTokenizer(dir)
	if err != nil {
		return nil, err
	}
	t, err := parseTokenizer(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.path = path
	t.findEOS(string(config.EOS))
	return t, nil
}

// readTokenizer returns the tokenizer.json of a folder, or an equivalent made from other files, and the files beside
// it.
func readTokenizer(dir string) (data []byte, path string, config configFile, err error) {
	path = filepath.Join(dir, "tokenizer.json")
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		path, dir = dir, filepath.Dir(dir)
	}
	if config, err = readConfig(dir); err != nil {
		return nil, path, config, err
	}
	data, err = file.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		if data, err = spiece(dir, &config); errors.Is(err, ErrNotFound) {
			data, err = gpt2Files(dir, config)
		}
	}
	return data, path, config, err
}

// parseTokenizer builds the tokenizer described by a tokenizer.json.
func parseTokenizer(data []byte) (*Tokenizer, error) {
	var f tokenizerFile
	if err := unmarshal(data, &f); err != nil {
		return nil, err
	}
	t := &Tokenizer{cache: newWordCache()}
	var err error
	if t.normalize, err = parseNormalizer(f.Normalizer); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if t.words, err = parsePreTokenizer(f.PreTokenizer); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	if t.post, err = parsePost(f.PostProcessor); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	if t.decoders, err = parseDecoder(f.Decoder); err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	if t.model, t.ids, err = parseModel(f.Model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	t.deferBytes()
	return t, t.index(f.AddedTokens)
}

// deferBytes leaves the conversion of bytes to visible runes to encodeWord, if it is the last step, so that cached
// words skip it.
func (t *Tokenizer) deferBytes() {
	if n := len(t.words); n > 0 {
		if _, ok := t.words[n-1].(byteLevel); ok {
			t.words, t.bytes = t.words[:n-1], true
		}
	}
}

// index fills the tables by ID from the model's vocabulary and the added tokens.
func (t *Tokenizer) index(added []addedToken) (err error) {
	defer t.catch(&err) // the normalizer runs on added tokens
	t.tokens = make(map[int32]string, len(t.ids)+len(added))
	for s, id := range t.ids {
		if id < 0 || id == 1<<31-1 {
			return fmt.Errorf("token %q has id %d, which is out of range", s, id)
		}
		// if two tokens share an ID, always keep the same one
		if old, ok := t.tokens[id]; !ok || s < old {
			t.tokens[id] = s
		}
	}
	for _, tok := range added {
		if tok.ID < 0 || tok.ID == 1<<31-1 {
			return fmt.Errorf("added token %q has id %d, which is out of range", tok.Content, tok.ID)
		}
	}
	t.added = newAddedTokens(added, t.ids, t.normalized)
	for s, id := range t.added.ids {
		t.tokens[id] = s
	}
	for id := range t.tokens {
		t.size = max(t.size, int(id)+1)
	}
	return nil
}

// parseModel parses a model and its vocabulary.
func parseModel(raw json.RawMessage) (model, map[string]int32, error) {
	kind, err := modelKind(raw)
	if err != nil {
		return nil, nil, err
	}
	switch kind {
	case "BPE":
		return parseBPE(raw)
	case "WordPiece":
		return parseWordPiece(raw)
	case "WordLevel":
		return parseWordLevel(raw)
	case "Unigram":
		return parseUnigram(raw)
	}
	return nil, nil, unknownType(kind)
}

// modelKind returns the type of a model. Files written before tokenizers 0.9 do not name it: it is then the first kind
// whose keys are all present, in the order in which the library tries them.
func modelKind(raw json.RawMessage) (string, error) {
	var keys map[string]json.RawMessage
	if err := unmarshal(raw, &keys); err != nil && len(raw) > 0 {
		return "", err
	}
	has := func(key, start string) bool { return strings.HasPrefix(string(keys[key]), start) }
	switch {
	case keys == nil:
		return "", errors.New("missing: expected BPE, WordPiece, Unigram or WordLevel")
	case has("type", `"`):
		return kindOf(raw)
	case has("vocab", "{") && has("merges", "["):
		return "BPE", nil
	case has("vocab", "{") && has("continuing_subword_prefix", `"`):
		return "WordPiece", nil
	case has("vocab", "{") && has("unk_token", `"`):
		return "WordLevel", nil
	case has("vocab", "["):
		return "Unigram", nil
	}
	return "", fmt.Errorf("no type, and the keys of no known kind (%s): expected a vocab, with merges (BPE), "+
		"continuing_subword_prefix (WordPiece) or unk_token (WordLevel), or as a list of pieces and scores (Unigram)",
		strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
}

func parseBPE(raw json.RawMessage) (model, map[string]int32, error) {
	var f bpeFile
	if err := unmarshal(raw, &f); err != nil {
		return nil, nil, err
	}
	b, err := newBPE(f)
	return b, f.Vocab, err
}

// unknownType returns the error for a component of an unknown type.
func unknownType(kind string) error { return fmt.Errorf("unknown type %q", kind) }

// kindOf returns the type of a component, or "" if it is null or absent.
func kindOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var c struct {
		Type string `json:"type"`
	}
	if err := unmarshal(raw, &c); err != nil {
		return "", err
	}
	if c.Type == "" {
		return "", fmt.Errorf("component without a type: %.60s", raw)
	}
	return c.Type, nil
}

// parseSequence parses the components listed under key with parse and concatenates their steps.
func parseSequence[S ~[]T, T any](raw json.RawMessage, key string, parse func(json.RawMessage) (S, error)) (S, error) {
	if nesting(raw) > maxNesting {
		return nil, fmt.Errorf("%s: nested more than %d deep", key, maxNesting)
	}
	var f map[string]json.RawMessage
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var parts []json.RawMessage
	if err := unmarshal(f[key], &parts); err != nil {
		return nil, fmt.Errorf("%s: expected a list of components", key)
	}
	var all S
	for _, part := range parts {
		steps, err := parse(part)
		if err != nil {
			return nil, err
		}
		all = append(all, steps...)
	}
	return all, nil
}

// maxNesting is the maximum nesting depth of a sequence: each level copies the levels within it.
const maxNesting = 32

// nesting returns the nesting depth of the lists and objects in a JSON text.
func nesting(raw json.RawMessage) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
