package tokenizer

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// componentCase is a component and what it makes of an input: testdata/oracle.py
// checks the same cases against the tokenizers library.
type componentCase struct {
	Part string          `json:"part"`
	Spec json.RawMessage `json:"spec"`
	In   any             `json:"in"`  // a text, or the tokens for a decoder
	Out  any             `json:"out"` // a text, or the words of a pre-tokenizer
}

func (c componentCase) run() (any, error) {
	switch c.Part {
	case "normalizer":
		f, err := parseNormalizer(c.Spec)
		if err != nil {
			return nil, err
		}
		return f(c.In.(string), math.MaxInt), nil
	case "pre_tokenizer":
		return c.words()
	}
	steps, err := parseDecoder(c.Spec)
	var tokens []string
	for _, t := range c.In.([]any) {
		tokens = append(tokens, t.(string))
	}
	for _, d := range steps {
		tokens = d.chain(tokens)
	}
	return strings.Join(tokens, ""), err
}

func (c componentCase) words() (any, error) {
	s, err := parsePreTokenizer(c.Spec)
	words := []any{}
	if c.In != "" { // no piece is empty
		s.split(piece{c.In.(string), true}, func(p piece) { words = append(words, p.text) })
	}
	return words, err
}

func TestComponents(t *testing.T) {
	var cases []componentCase
	readJSON(t, "testdata/components.json", &cases)
	for _, c := range cases {
		got, err := c.run()
		if err != nil || !reflect.DeepEqual(got, c.Out) {
			t.Errorf("%s %s of %q:\n got %q, %v\nwant %q", c.Part, c.Spec, c.In, got, err, c.Out)
		}
	}
}

// encodingCase is a text under one of testdata/tokenizers, checked by the same
// script.
type encodingCase struct {
	Tokenizer string  `json:"tokenizer"`
	Text      string  `json:"text"`
	IDs       []int32 `json:"ids"`
	Plain     []int32 `json:"plain"`
	Decoded   string  `json:"decoded"`
}

func TestEncodings(t *testing.T) {
	var cases []encodingCase
	readJSON(t, "testdata/encodings.json", &cases)
	loaded := map[string]*Tokenizer{}
	for _, c := range cases {
		if loaded[c.Tokenizer] == nil {
			tok, err := Load("testdata/tokenizers/" + c.Tokenizer + ".json")
			if err != nil {
				t.Fatal(err)
			}
			loaded[c.Tokenizer] = tok
		}
		tok := loaded[c.Tokenizer]
		if got := must(tok.Encode)(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("%s: Encode(%q)\n got %v\nwant %v", c.Tokenizer, c.Text, got, c.IDs)
		}
		if got := must(tok.EncodePlain)(c.Text); !slices.Equal(got, c.Plain) {
			t.Errorf("%s: EncodePlain(%q)\n got %v\nwant %v", c.Tokenizer, c.Text, got, c.Plain)
		}
		if got := must(tok.Decode)(c.IDs); got != c.Decoded {
			t.Errorf("%s: Decode(%v)\n got %q\nwant %q", c.Tokenizer, c.IDs, got, c.Decoded)
		}
	}
}
