package llamacpp

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints/gguf"
	"gqa/internal/tokenizer"
)

// describe describes a tokenizer.json after a change of its text, with files beside it.
func describe(t *testing.T, name, old, new string, beside map[string]string) *tokenizer.Description {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../internal/tokenizer/testdata/tokenizers", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%s has no %s", name, old)
	}
	dir := t.TempDir()
	files := map[string]string{"tokenizer.json": strings.Replace(string(data), old, new, 1)}
	for name, text := range beside {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	d, err := tokenizer.Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func keysOf(list []gguf.Key) map[string]any {
	all := map[string]any{}
	for _, k := range list {
		all[strings.TrimPrefix(k.Name, "tokenizer.ggml.")] = k.Value
	}
	return all
}

func TestVocab(t *testing.T) {
	for name, want := range map[string]map[string]any{
		"llama3": {"model": "gpt2", "pre": "llama-bpe", "bos_token_id": uint32(271), "add_bos_token": true, "add_eos_token": false},
		"neox":   {"model": "gpt2", "pre": "gpt-2", "add_bos_token": false},
		"falcon": {"model": "gpt2", "pre": "falcon"},
		"bloom":  {"model": "gpt2", "pre": "bloom"},
		"llama2": {"model": "llama", "pre": "default", "add_space_prefix": true, "bos_token_id": uint32(1), "add_bos_token": true},
		"gemma":  {"model": "llama", "add_space_prefix": false, "bos_token_id": uint32(2), "add_bos_token": true},
		"t5": {
			"model": "t5", "add_space_prefix": true, "remove_extra_whitespaces": false, "eos_token_id": uint32(1), "add_bos_token": false,
			"add_eos_token": true,
		},
		"bert": {"model": "bert", "bos_token_id": uint32(2), "seperator_token_id": uint32(3), "add_bos_token": true, "add_eos_token": false},
	} {
		t.Run(name, func(t *testing.T) {
			d := describe(t, name, "", "", nil)
			keys, _, err := Vocab(d, len(d.Tokens)+3)
			if err != nil {
				t.Fatal(err)
			}
			got := keysOf(keys)
			for key, value := range want {
				if !reflect.DeepEqual(got[key], value) {
					t.Errorf("%s is %v, want %v", key, got[key], value)
				}
			}
			tokens, types := got["tokens"].([]string), got["token_type"].([]int32)
			if n := len(d.Tokens) + 3; len(tokens) != n || len(types) != n || types[n-1] != unused || !strings.HasPrefix(tokens[n-1], "[PAD") {
				t.Errorf("%d tokens, the last %q of type %d; want %d, the last one unused", len(tokens), tokens[n-1], types[n-1], n)
			}
		})
	}
}

// TestSpiece: a folder with only a SentencePiece model gives the same result as its tokenizer.json.
func TestSpiece(t *testing.T) {
	for name, c := range map[string]struct {
		class, file string
		want        map[string]any
	}{
		"t5": {"T5Tokenizer", "spiece.model", map[string]any{
			"model": "t5", "add_space_prefix": true, "remove_extra_whitespaces": true, "eos_token_id": uint32(1), "padding_token_id": uint32(0),
			"unknown_token_id": uint32(2), "add_bos_token": false, "add_eos_token": true,
		}},
		"llama2": {"LlamaTokenizer", "tokenizer.model", map[string]any{
			"model": "llama", "add_space_prefix": true, "bos_token_id": uint32(1), "eos_token_id": uint32(2), "add_bos_token": true, "add_eos_token": false,
		}},
	} {
		model, err := os.ReadFile(filepath.Join("../../internal/tokenizer/testdata/spiece", name+".model"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for file, data := range map[string][]byte{c.file: model, "tokenizer_config.json": []byte(`{"tokenizer_class": "` + c.class + `"}`)} {
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		d, err := tokenizer.Describe(dir)
		if err != nil {
			t.Fatal(err)
		}
		keys, _, err := Vocab(d, len(d.Tokens))
		if err != nil {
			t.Fatal(err)
		}
		got := keysOf(keys)
		for key, value := range c.want {
			if !reflect.DeepEqual(got[key], value) {
				t.Errorf("%s: %s is %v, want %v", name, key, got[key], value)
			}
		}
		if types := got["token_type"].([]int32); !slices.Contains(types, control) || !slices.Contains(types, unknown) {
			t.Errorf("%s: token types %v", name, types)
		}
	}
}

// TestTokenTypes follows single tokens: their spelling, type and score.
func TestTokenTypes(t *testing.T) {
	for name, want := range map[string][]struct {
		id    int
		token string
		kind  int32
	}{
		"llama2": {{0, "<unk>", unknown}, {1, "<s>", control}, {291, "<|user|>", control}, {293, "wor", userDefined}},
		"neox":   {{0, "<|endoftext|>", control}, {271, "  ", userDefined}, {275, "é!", userDefined}},
		"bert":   {{0, "[PAD]", control}, {1, "[UNK]", unknown}, {2, "[CLS]", control}},
	} {
		d := describe(t, name, "", "", nil)
		keys, _, err := Vocab(d, len(d.Tokens))
		if err != nil {
			t.Fatal(err)
		}
		got := keysOf(keys)
		for _, w := range want {
			if token, kind := got["tokens"].([]string)[w.id], got["token_type"].([]int32)[w.id]; token != w.token || kind != w.kind {
				t.Errorf("%s: token %d is %q of type %d, want %+v", name, w.id, token, kind, w)
			}
		}
	}
}

// TestScores: joining by score is equivalent to merging by rank.
func TestScores(t *testing.T) {
	d := describe(t, "llama2", "", "", nil)
	keys, _, err := Vocab(d, len(d.Tokens))
	if err != nil {
		t.Fatal(err)
	}
	got := keysOf(keys)
	tokens, scores, types := got["tokens"].([]string), got["scores"].([]float32), got["token_type"].([]int32)
	last := float32(1)
	for _, m := range d.Merges {
		score := scores[slices.Index(tokens, m[0]+m[1])]
		if score > last {
			t.Errorf("merge %q scores %g, more than one before it", m, score)
		}
		last = score
	}
	if i := slices.Index(tokens, "<0x0A>"); types[i] != byteToken || scores[i] >= last {
		t.Errorf("the byte token is of type %d and scores %g", types[i], scores[i])
	}
}

func TestWordPieceSpelling(t *testing.T) {
	d := describe(t, "bert", "", "", nil)
	keys, _, err := Vocab(d, len(d.Tokens))
	if err != nil {
		t.Fatal(err)
	}
	tokens := keysOf(keys)["tokens"].([]string)
	for id, token := range d.Tokens {
		want := mark + token.Text
		if rest, ok := strings.CutPrefix(token.Text, "##"); ok {
			want = rest
		} else if token.Added {
			want = token.Text
		}
		if tokens[id] != want {
			t.Errorf("%q is %q, want %q", token.Text, tokens[id], want)
		}
	}
}

func TestVocabBesides(t *testing.T) {
	d := describe(t, "neox", "", "", map[string]string{
		"tokenizer_config.json": `{"bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"}, "pad_token": null, "chat_template":
			[{"name": "default", "template": "{{ a }}"}, {"name": "tool_use", "template": "{{ b }}"}]}`,
	})
	keys, notes, err := Vocab(d, len(d.Tokens))
	if err != nil {
		t.Fatal(err)
	}
	got := keysOf(keys)
	for key, want := range map[string]any{
		"bos_token_id": uint32(0), "eos_token_id": uint32(0), "padding_token_id": nil, "tokenizer.chat_template": "{{ a }}",
		"tokenizer.chat_template.tool_use": "{{ b }}", "tokenizer.chat_templates": []string{"tool_use"},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "NFC") {
		t.Errorf("notes %q, want one on NFC", notes)
	}
}

func TestVocabRefuses(t *testing.T) {
	for want, c := range map[string]struct{ name, old, new string }{
		"no pre-tokenizer of the steps":              {name: "qwen-possessive"},
		"add_prefix_space true":                      {name: "bart"},
		"end_of_word_suffix":                         {name: "clip"},
		"neither byte-level nor falls back to bytes": {name: "prefixed"},
		"no tokenizer of type WordLevel":             {name: "words"},
		"Unigram has no byte_fallback":               {name: "unigram-bytes"},
		"always lowercases":                          {"bert", `"lowercase":true`, `"lowercase":false`},
		"ignore_merges false":                        {"bloom", ` ?[^(`, ` ?[^x(`},
		"no normalizer Lowercase":                    {"neox", `"NFC"`, `"Lowercase"`},
		"do not support this NFC":                    {"llama2", `"normalizers":[`, `"normalizers":[{"type":"NFC"},`},
	} {
		t.Run(want, func(t *testing.T) {
			d := describe(t, c.name, c.old, c.new, nil)
			_, _, err := Vocab(d, len(d.Tokens))
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got error %v, want one line with %q", err, want)
			}
		})
	}
	d := describe(t, "llama3", "", "", nil)
	if _, _, err := Vocab(d, 200); err == nil || !strings.Contains(err.Error(), "the embedding has 200 rows") {
		t.Errorf("got error %v, want one about the embedding's rows", err)
	}
	keys, notes, err := Vocab(d, len(d.Tokens)-1) // without a row for the last added token
	if err != nil || len(keysOf(keys)["tokens"].([]string)) != len(d.Tokens)-1 || !strings.Contains(strings.Join(notes, "\n"), "from id 273 on") {
		t.Errorf("an added token beyond the rows: %q, %v", notes, err)
	}
	d.Tokens[5].Text = d.Tokens[6].Text
	if _, _, err := Vocab(d, len(d.Tokens)); err == nil || !strings.Contains(err.Error(), "ids 5 and 6 are both") {
		t.Errorf("got error %v, want one about twins", err)
	}
}
