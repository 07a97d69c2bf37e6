// Package chat puts a prompt into the form in which a chat model was trained: by the template beside its tokenizer.
package chat

import (
	"errors"
	"fmt"

	"github.com/ardanlabs/jinja"

	"gqa/internal/tokenizer"
)

// Template is a model's chat template, in the language of Jinja as transformers uses it.
type Template struct {
	path     string
	compiled *jinja.Template
	marked   bool              // the template says what the model generates
	tokens   map[string]string // special tokens by role, such as bos_token
}

// ErrNone is wrapped by the error for a model without a chat template.
var ErrNone = errors.New("no chat template")

// Load reads the template of a model folder: chat_template.jinja, or chat_template in tokenizer_config.json.
func Load(dir string) (*Template, error) {
	d, err := tokenizer.Describe(dir)
	if err != nil {
		return nil, err
	}
	text, ok := d.Templates["default"]
	if !ok {
		return nil, fmt.Errorf("%s has %w: expected chat_template.jinja, or chat_template in tokenizer_config.json", dir, ErrNone)
	}
	t := &Template{path: dir, tokens: map[string]string{}}
	text, t.marked = explicit(text)
	if t.compiled, err = jinja.Compile(text); err != nil {
		return nil, fmt.Errorf("%s: chat template: %w", dir, err)
	}
	for role, id := range d.Special {
		t.tokens[role] = d.Tokens[id].Text
	}
	return t, nil
}

// Prompt returns the text of a conversation in which a user has said message, up to where the model's answer begins. It includes all
// special tokens.
func (t *Template) Prompt(message string) (string, error) {
	text, err := t.render([]any{map[string]any{"role": "user", "content": message}}, nil, true)
	text, _ = unmark(text)
	return text, err
}

// render applies the template as transformers does.
func (t *Template) render(messages []any, tools any, invite bool) (string, error) {
	values := map[string]any{"messages": messages, "add_generation_prompt": invite, "tools": tools, "documents": nil}
	for role, token := range t.tokens {
		values[role] = token
	}
	text, err := t.compiled.Render(values)
	if err != nil {
		return "", fmt.Errorf("%s: chat template: %w", t.path, err)
	}
	return text, nil
}
