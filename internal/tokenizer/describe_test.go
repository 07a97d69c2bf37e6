package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// describeFile describes one of testdata/tokenizers with files beside it.
func describeFile(t *testing.T, name string, beside map[string]string) (*Description, error) {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile("testdata/tokenizers/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"tokenizer.json": string(data)}
	for name, text := range beside {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Describe(dir)
}

// TestDescribeAgrees: a description's tokens are those that the tokenizer decodes.
func TestDescribeAgrees(t *testing.T) {
	paths, err := filepath.Glob("testdata/tokenizers/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		tok, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := describeFile(t, strings.TrimSuffix(filepath.Base(path), ".json"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Tokens) != tok.VocabSize() {
			t.Errorf("%s: %d tokens, want %d", path, len(d.Tokens), tok.VocabSize())
		}
		for id, token := range d.Tokens {
			if token.Text != tok.tokens[int32(id)] || token.Special != tok.added.special[int32(id)] {
				t.Errorf("%s: token %d is %+v, want %q", path, id, token, tok.tokens[int32(id)])
			}
		}
		if around := append(append([]int32{}, d.Before...), d.After...); len(around) > 0 != (len(must(tok.Encode)("")) > 0) {
			t.Errorf("%s: %v around a text, but the tokenizer puts %v", path, around, must(tok.Encode)(""))
		}
	}
}

func TestDescribe(t *testing.T) {
	d, err := describeFile(t, "llama2", map[string]string{
		"tokenizer_config.json":   `{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ old }}"}`,
		"special_tokens_map.json": `{"bos_token": "</s>", "unk_token": "<unk>"}`,
		"chat_template.jinja":     "{{ new }}",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int32{"bos_token": 1, "eos_token": 2, "unk_token": 0}; !reflect.DeepEqual(d.Special, want) {
		t.Errorf("special tokens %v, want %v", d.Special, want)
	}
	if d.Kind != "BPE" || !d.ByteFallback || !d.Tokens[0].Unknown || d.Tokens[1].Unknown || len(d.Merges) != 15 || d.Templates["default"] != "{{ new }}" {
		t.Errorf("%+v", d)
	}
	var steps []string
	for _, c := range append(d.Normalizer, d.PreTokenizer...) {
		steps = append(steps, c.Type)
	}
	if want := []string{"Prepend", "Replace"}; !reflect.DeepEqual(steps, want) || !reflect.DeepEqual(d.Before, []int32{1}) {
		t.Errorf("steps %v around %v, want %v around [1]", steps, d.Before, want)
	}
}

func TestDescribeErrors(t *testing.T) {
	if _, err := Describe(t.TempDir()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got error %v, want that there is no tokenizer", err)
	}
	_, err := describeFile(t, "neox", map[string]string{"tokenizer_config.json": `{"chat_template": 7}`})
	if err == nil || !strings.Contains(err.Error(), "chat_template") {
		t.Errorf("got error %v, want one about the template", err)
	}
}
