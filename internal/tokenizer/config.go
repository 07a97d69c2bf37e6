package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/internal/file"
)

// configFile holds the fields used from tokenizer_config.json.
type configFile struct {
	BOS tokenName `json:"bos_token"`
	EOS tokenName `json:"eos_token"`
	Unk tokenName `json:"unk_token"`
	Pad tokenName `json:"pad_token"`
}

// tokenName decodes "</s>", {"content": "</s>"} and null.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	var f struct{ Content string }
	if unmarshal(data, (*string)(n)) == nil {
		return nil
	}
	err := unmarshal(data, &f)
	*n = tokenName(f.Content)
	return err
}

func readConfig(dir string) (c configFile, err error) {
	path := filepath.Join(dir, "tokenizer_config.json")
	data, err := file.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = unmarshal(data, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, file.Reason(path, err))
	}
	return c, nil
}

// gpt2Files returns a tokenizer.json equivalent to GPT-2's vocab.json and merges.txt.
func gpt2Files(dir string, c configFile) ([]byte, error) {
	vocab := map[string]int32{}
	data, err := file.Read(filepath.Join(dir, "vocab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, noTokenizer(dir)
	}
	if err != nil {
		return nil, err
	}
	if err := unmarshal(data, &vocab); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "vocab.json"), err)
	}
	merges, err := file.Read(filepath.Join(dir, "merges.txt"))
	if err != nil {
		return nil, err
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false}
	return json.Marshal(map[string]any{
		"added_tokens":  specialTokens(vocab, c),
		"pre_tokenizer": byteLevel,
		"decoder":       byteLevel,
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": mergeLines(string(merges))},
	})
}

// mergeLines returns the lines of merges.txt without the version line that may come first. A merge may itself start
// with #.
func mergeLines(text string) []string {
	lines := []string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line != "" && !(i == 0 && strings.HasPrefix(line, "#version")) {
			lines = append(lines, line)
		}
	}
	return lines
}

// specialTokens returns the usual and the configured special tokens that are in the vocabulary.
func specialTokens(vocab map[string]int32, c configFile) []map[string]any {
	tokens := []map[string]any{}
	names := append(slices.Clone(endOfText), string(c.BOS), string(c.EOS), string(c.Unk))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if id, ok := vocab[name]; ok && name != "" {
			tokens = append(tokens, map[string]any{"id": id, "content": name, "special": true})
		}
	}
	return tokens
}

// ErrNotFound is wrapped by the error for a folder without tokenizer files.
var ErrNotFound = errors.New("no tokenizer")

func noTokenizer(dir string) error {
	for _, name := range spieceFiles {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s has a %s but no tokenizer.json, and tokenizer_config.json names no supported class: make one with transformers, AutoTokenizer.from_pretrained(…).save_pretrained(…)", dir, name)
		}
	}
	return fmt.Errorf("%s has %w: expected tokenizer.json, spiece.model, or vocab.json and merges.txt", dir, ErrNotFound)
}
