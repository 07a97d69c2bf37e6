package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// Corpus is a part of the training data.
type Corpus struct {
	Path    string  `yaml:"path" json:"path"`
	Weight  float64 `yaml:"weight" json:"weight"`                         // share of the windows, relative to the other weights; 0: 1
	TextKey string  `yaml:"text_key,omitempty" json:"text_key,omitempty"` // empty: the recipe's
}

// isMixture reports whether a value of data is a list of corpora.
func isMixture(data string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(data), "[")
	return ok && strings.HasPrefix(strings.TrimSpace(rest), "{")
}

// Corpora returns the parts of the training data: one for a path.
func (r Recipe) Corpora() ([]Corpus, error) {
	if !isMixture(r.Data) {
		return []Corpus{{r.Data, 1, r.TextKey}}, nil
	}
	var all []Corpus
	if err := yaml.UnmarshalWithOptions([]byte(r.Data), &all, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("data is a list, want each of it as {path: PATH, weight: X, text_key: KEY}: %s", firstLine(err.Error()))
	}
	for i := range all {
		c := &all[i]
		if c.Weight == 0 {
			c.Weight = 1
		}
		if c.TextKey == "" {
			c.TextKey = r.TextKey
		}
		switch {
		case c.Path == "":
			return nil, fmt.Errorf("data: part %d of the list has no path", i+1)
		case c.Weight < 0 || !finite(c.Weight):
			return nil, fmt.Errorf("data: the weight of %s is %v, want more than 0", c.Path, c.Weight)
		}
	}
	return all, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// SetCorpora sets the training data, as Corpora returns it. Several parts, or one with a key of its own, are written as a list.
func (r *Recipe) SetCorpora(all []Corpus) error {
	if len(all) == 1 && !isMixture(r.Data) {
		r.Data = all[0].Path
		return nil
	}
	text, err := json.Marshal(all)
	r.Data = string(text)
	return err
}

// mixtureYAML is YAML for a recipe whose data is a list, which it writes as one.
func (r Recipe) mixtureYAML() ([]byte, error) {
	all, err := r.Corpora()
	if err != nil {
		return nil, err
	}
	list, err := yaml.Marshal(all)
	if err != nil {
		return nil, err
	}
	const place = "data: list\n"
	r.Data = "list"
	text, err := yaml.Marshal(r)
	return bytes.Replace(text, []byte("\n"+place), append([]byte("\ndata:\n"), list...), 1), err
}

// listText returns the text of a list in a recipe's YAML document that is the value of a key.
func listText(key string, list []any) (string, error) {
	if key != "data" {
		return "", fmt.Errorf("%s is a list, want a value", key)
	}
	for _, part := range list {
		if _, ok := part.(map[string]any); !ok {
			return "", errors.New("data is a list, want each of it as {path: PATH, weight: X, text_key: KEY}")
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	var all []Corpus
	d := json.NewDecoder(bytes.NewReader(text))
	if d.DisallowUnknownFields(); d.Decode(&all) == nil { // otherwise Corpora says what is wrong
		text, err = json.Marshal(all)
	}
	return string(text), err
}
