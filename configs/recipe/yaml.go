package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// Limits on a recipe's YAML. The embedded recipes use at most a tenth of each; a larger document would only waste
// memory or time.
const (
	maxRecipeBytes   = 64 << 10
	maxRecipeKeys    = 1000
	maxRecipeDepth   = 16
	maxRecipeAliases = 16 // including merges, each of which may repeat others
	maxRecipeItems   = 4096
)

// decodeYAML decodes a recipe, which must be a single document.
func decodeYAML(document []byte) (map[string]any, error) {
	if err := checkYAML(document); err != nil {
		return nil, err
	}
	var keys map[string]any
	var more any
	d := yaml.NewDecoder(bytes.NewReader(document))
	err := d.Decode(&keys)
	switch {
	case err == nil && !errors.Is(d.Decode(&more), io.EOF):
		return nil, errors.New("it holds more than one YAML document")
	case err != nil && !errors.Is(err, io.EOF):
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	if depth(keys) > maxRecipeDepth {
		return nil, fmt.Errorf("its keys and lists nest more than %d deep", maxRecipeDepth)
	}
	return keys, nil
}

// checkYAML checks the limits that can be checked before decoding.
func checkYAML(document []byte) error {
	if len(document) > maxRecipeBytes {
		return fmt.Errorf("it has %d bytes, more than the %d of the largest recipe", len(document), maxRecipeBytes)
	}
	var keys, aliases, items int
	for _, t := range lexer.Tokenize(string(document)) {
		switch t.Type {
		case token.CommentType:
			continue
		case token.MappingValueType, token.MappingKeyType:
			keys++
		case token.AliasType, token.MergeKeyType:
			aliases++
		}
		items++
	}
	for _, of := range []struct {
		n, limit int
		what     string
	}{{keys, maxRecipeKeys, "keys"}, {aliases, maxRecipeAliases, "aliases and merges"}, {items, maxRecipeItems, "words and signs"}} {
		if of.n > of.limit {
			return fmt.Errorf("it has %d %s, more than %d", of.n, of.what, of.limit)
		}
	}
	return nil
}

// depth returns the nesting depth of groups and lists.
func depth(v any) (deepest int) {
	switch v := v.(type) {
	case map[string]any:
		for _, each := range v {
			deepest = max(deepest, depth(each))
		}
	case []any:
		for _, each := range v {
			deepest = max(deepest, depth(each))
		}
	default:
		return 0
	}
	return deepest + 1
}
