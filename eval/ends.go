package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"gqa/internal/file"
	"gqa/internal/tokenizer"
)

// EndTokens returns the tokens that end a text: the tokenizer's, and those of generation_config.json, such as the end of a turn.
func EndTokens(m *Model, tok *tokenizer.Tokenizer) (ends []int32, err error) {
	if end, ok := tok.EOS(); ok {
		ends = append(ends, end)
	}
	path := filepath.Join(m.Dir, "generation_config.json")
	text, err := file.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ends, nil
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		End json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var one int32
	var more []int32
	switch {
	case config.End == nil || string(config.End) == "null":
	case json.Unmarshal(config.End, &one) == nil:
		more = []int32{one}
	default:
		if err := json.Unmarshal(config.End, &more); err != nil {
			return nil, fmt.Errorf("%s: eos_token_id is %.60s, want an id or a list of ids", path, config.End)
		}
	}
	for _, id := range more {
		if !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	return ends, nil
}
