package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gqa/internal/tokenizer"
)

// Word patterns of OpenAI's tokenizers after GPT-2, with numbers of up to three digits (Llama 3 and others) and with
// single digits (Qwen 2 and others).
const (
	threeDigits = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	oneDigit    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tekken      = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizers are llama.cpp's pre-tokenizers, identified by the equivalent steps in tokenizer.json and by whether the
// model looks words up before merging. Names with the same steps and lookup give the same IDs; one of them is enough.
var preTokenizers = []struct {
	name         string
	steps        []string
	ignoreMerges bool
}{
	{"gpt-2", []string{"gpt2"}, false},
	{"llama-bpe", []string{"split " + threeDigits, "bytes"}, true},
	{"smaug-bpe", []string{"split " + threeDigits, "bytes"}, false},
	{"qwen2", []string{"split " + oneDigit, "bytes"}, false},
	{"tekken", []string{"split " + tekken, "bytes"}, true},
	{"starcoder", []string{"digits", "gpt2"}, false},
	{"falcon", []string{"punctuation Contiguous", "gpt2", "numbers", "split [0-9][0-9][0-9]"}, false},
	{"bloom", []string{`split  ?[^(\s|[.,!?…。，、।۔،])]+`, "bytes"}, false},
	{"bloom", []string{`split  ?[^(\s|.,!?…。，、।۔،)]+`, "bytes"}, false},
	{"viking", []string{`split  ?[^(\s|[.,!?…。，、।۔،])]+`, "digits", "bytes"}, false},
}

// preTokenizer returns llama.cpp's name for a byte-level tokenizer's steps.
func preTokenizer(d *tokenizer.Description) (string, error) {
	steps := make([]string, len(d.PreTokenizer))
	for i, c := range d.PreTokenizer {
		var err error
		if steps[i], err = step(c); err != nil {
			return "", fmt.Errorf("tokenizer.json: pre_tokenizer: %w", err)
		}
	}
	var near string
	for _, p := range preTokenizers {
		if !slices.Equal(p.steps, steps) {
			continue
		}
		if p.ignoreMerges == d.IgnoreMerges {
			return p.name, nil
		}
		near = fmt.Sprintf(" (%s has these steps, but ignore_merges %v)", p.name, p.ignoreMerges)
	}
	return "", fmt.Errorf("tokenizer.json: llama.cpp has no pre-tokenizer of the steps [%s] with ignore_merges %v%s", strings.Join(steps, "; "), d.IgnoreMerges, near)
}

// fields are the fields of the components in the table above.
type fields struct {
	Pattern        struct{ Regex, String string } `json:"pattern"`
	Behavior       string
	Invert         bool
	AddPrefixSpace bool  `json:"add_prefix_space"`
	UseRegex       *bool `json:"use_regex"`
	Individual     bool  `json:"individual_digits"`
}

// step describes a component in the notation of the table above.
func step(c tokenizer.Component) (string, error) {
	var f fields
	if err := json.Unmarshal(c.Raw, &f); err != nil {
		return "", err
	}
	switch c.Type {
	case "ByteLevel":
		return f.byteLevel()
	case "Split":
		return f.split(), nil
	case "Digits":
		if f.Individual {
			return "digits", nil
		}
		return "numbers", nil
	case "Punctuation":
		return "punctuation " + f.Behavior, nil
	}
	return c.Type, nil
}

func (f fields) byteLevel() (string, error) {
	switch {
	case f.AddPrefixSpace:
		return "", errors.New("ByteLevel has add_prefix_space true, which llama.cpp does not support")
	case f.UseRegex == nil || *f.UseRegex:
		return "gpt2", nil
	}
	return "bytes", nil
}

func (f fields) split() string {
	whole := f.Behavior == "Isolated" && !f.Invert || f.Behavior == "Removed" && f.Invert // equivalent if matches leave no gaps
	if f.Pattern.Regex == "" || !whole {
		return fmt.Sprintf("Split %s%s %s", f.Pattern.Regex, f.Pattern.String, f.Behavior)
	}
	return "split " + f.Pattern.Regex
}
