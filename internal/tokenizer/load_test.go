package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/internal/alloc"
)

// spec returns a small byte-level tokenizer.json with some parts replaced.
func spec(parts map[string]string) string {
	f := map[string]json.RawMessage{
		"model":         json.RawMessage(`{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<e>":3},"merges":["a b"]}`),
		"pre_tokenizer": json.RawMessage(`{"type":"ByteLevel","add_prefix_space":false}`),
	}
	for key, part := range parts {
		f[key] = json.RawMessage(part)
	}
	data, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// Anything unknown in a file is an error that names it.
func TestLoadErrors(t *testing.T) {
	for _, c := range []struct{ part, value, want string }{
		{"model", `null`, "model: missing"},
		{"model", `{"type":"Neural"}`, `model: unknown type "Neural"`},
		{"model", `{"vocab":{}}`, "the keys of no known kind (vocab)"},
		{"model", `{"type":"BPE","vocab":{"a":0},"merges":["a b"]}`, `merge 0 ("a" "b"): "b" is not in the vocabulary`},
		{"model", `{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]}`, `"ab" is not in the vocabulary`},
		{"model", `{"type":"BPE","vocab":{"a":0},"merges":["a  a"]}`, "expected two tokens"},
		{"model", `{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}`, `merge 0 ("a" "")`},
		{"model", `{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"],"continuing_subword_prefix":"##"}`, `lacks the prefix "##"`},
		{"model", `{"type":"BPE","vocab":{"a":-1},"merges":[]}`, "out of range"},
		{"model", `{"type":"BPE","vocab":{"a":1e10},"merges":[]}`, "1e10"},
		{"model", `{"type":"BPE","vocab":{},"merges":[],"dropout":0.1}`, "dropout is 0.1"},
		{"model", `{"type":"BPE","vocab":{},"merges":[],"unk_token":"<unk>"}`, `unk_token "<unk>"`},
		{"model", `{"type":"WordPiece","vocab":{}}`, `unk_token "[UNK]"`},
		{"model", `{"type":"BPE","vocab":{},"merges":[],"end_of_word_suffix":"` + strings.Repeat("s", 300) + `"}`, "end_of_word_suffix has 300 bytes"},
		{"model", `{"type":"WordPiece","vocab":{"[UNK]":0},"continuing_subword_prefix":"` + strings.Repeat("s", 300) + `"}`, "continuing_subword_prefix has 300 bytes"},
		{"pre_tokenizer", `{"type":"Metaspace","replacement":"` + strings.Repeat("_", 300) + `"}`, "expected one character"},
		{"model", `{"type":"Unigram","vocab":[["a",0]],"unk_id":1}`, "unk_id is 1"},
		{"model", `{"type":"Unigram","vocab":[["a"]]}`, "expected a text and a score"},
		{"normalizer", `{"type":"Nmt"}`, `normalizer: unknown type "Nmt"`},
		{"normalizer", `{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"X"}]}`, `normalizer: unknown type "X"`},
		{"normalizer", `{"type":"Sequence"}`, "normalizers: expected a list"},
		{"normalizer", strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat(`]}`, 20), "normalizers: nested more than 32 deep"},
		{"normalizer", `{"type":"Replace","pattern":{"String":"a"}}`, "content is missing"},
		{"normalizer", `{"type":"Replace","pattern":{},"content":"a"}`, `neither "String" nor "Regex"`},
		{"normalizer", `{"type":"Precompiled","precompiled_charsmap":"AAA"}`, "charsmap"},
		{"pre_tokenizer", `{"type":"UnicodeScripts"}`, `pre_tokenizer: unknown type "UnicodeScripts"`},
		{"pre_tokenizer", `{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}`, `pattern "("`},
		{"pre_tokenizer", `{"type":"Split","pattern":{"Regex":"[a"},"behavior":"Isolated"}`, "without its ]"},
		{"pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a"},"behavior":"Torn"}`, `unknown behavior "Torn"`},
		{"pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a"}}`, "behavior is missing"},
		{"pre_tokenizer", `{"type":"Metaspace","replacement":"_","prepend_scheme":"last"}`, `unknown prepend_scheme "last"`},
		{"post_processor", `{"type":"Odd"}`, `post_processor: unknown type "Odd"`},
		{"post_processor", `{"type":"BertProcessing","sep":["a",1]}`, "cls or sep is missing"},
		{"post_processor", `{"type":"BertProcessing","sep":["a"],"cls":["a",1]}`, "expected a token and its ID"},
		{"post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]}`, `names "x"`},
		{"post_processor", `{"type":"TemplateProcessing","single":[]}`, "expected once"},
		{"model", `[]`, "model: []: JSON array, want object"},
		{"model", `{"type":"WordPiece","vocab":[]}`, "model: vocab: JSON array, want object"},
		{"model", `{"type":"WordLevel","vocab":[]}`, "model: vocab: JSON array, want object"},
		{"normalizer", `{"type":"Precompiled","precompiled_charsmap":"~"}`, "precompiled_charsmap: illegal base64"},
		{"normalizer", `{"type":"Precompiled","precompiled_charsmap":"AQAAAA=="}`, "fewer than its trie"},
		{"pre_tokenizer", `{"type":"ByteLevel","use_regex":1}`, "pre_tokenizer: use_regex: JSON number, want bool"},
		{"post_processor", `{"type":"RobertaProcessing","cls":1}`, "expected a token and its ID"},
		{"decoder", `{"type":"CTC"}`, `decoder: unknown type "CTC"`},
		{"added_tokens", `[{"id":-7,"content":"<x>"}]`, `added token "<x>" has id -7`},
	} {
		_, err := parseTokenizer([]byte(spec(map[string]string{c.part: c.value})))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: got error %v, want one line with %q", c.part, c.value, err, c.want)
		}
	}
}

func TestLoadMissing(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"has no tokenizer":         {"config.json": "{}"},
		"tokenizer.model but":      {"tokenizer.model": "x"},
		"merges.txt":               {"vocab.json": `{"a":0}`},
		"tokenizer_config.json":    {"tokenizer_config.json": "[", "tokenizer.json": spec(nil)},
		"tokenizer.json: invalid ": {"tokenizer.json": "x"},
	} {
		if _, err := Load(tree(t, files)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: got error %v, want one with %q", files, err, name)
		}
	}
}

func TestEOS(t *testing.T) {
	for _, c := range []struct {
		config, vocab string
		want          int32
	}{
		{`{}`, `{"a":0,"<e>":3}`, -1},
		{`{"eos_token":"<e>"}`, `{"</s>":0,"<e>":3}`, 3},
		{`{"eos_token":{"content":"<e>","lstrip":false}}`, `{"</s>":0,"<e>":3}`, 3},
		{`{"eos_token":null}`, `{"</s>":0,"<e>":3}`, 0},
		{`{"eos_token":"<not there>"}`, `{"<eos>":1,"</s>":0}`, 0},
		{`{}`, `{"<|end_of_text|>":5,"<eos>":4}`, 5},
	} {
		dir := tree(t, map[string]string{
			"tokenizer_config.json": c.config,
			"tokenizer.json":        spec(map[string]string{"model": `{"type":"BPE","merges":[],"vocab":` + c.vocab + `}`}),
		})
		tok, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := tok.EOS(); got != c.want || ok != (c.want >= 0) {
			t.Errorf("config %s, vocab %s: EOS() = %d, %v, want %d", c.config, c.vocab, got, ok, c.want)
		}
	}
}

// vocab.json and merges.txt give the same tokenizer as the equivalent tokenizer.json.
func TestGPT2Files(t *testing.T) {
	var f struct {
		Model struct {
			Vocab  map[string]int32 `json:"vocab"`
			Merges [][2]string      `json:"merges"`
		} `json:"model"`
	}
	readJSON(t, filepath.Join(gopher, "tokenizer.json"), &f)
	vocab, err := json.Marshal(f.Model.Vocab)
	if err != nil {
		t.Fatal(err)
	}
	merges := "#version: 0.2\r\n"
	for _, m := range f.Model.Merges {
		merges += m[0] + " " + m[1] + "\r\n"
	}
	tok, err := Load(tree(t, map[string]string{"vocab.json": string(vocab), "merges.txt": merges}))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range readExamples(t) {
		if got := must(tok.Encode)(e.Text); !slices.Equal(got, e.IDs) {
			t.Errorf("Encode(%q)\n got %v\nwant %v", e.Text, got, e.IDs)
		}
		if got := must(tok.Decode)(e.IDs); got != e.Text {
			t.Errorf("Decode(%v) = %q, want %q", e.IDs, got, e.Text)
		}
	}
}

func TestAddedTokens(t *testing.T) {
	var m matcher
	for _, tok := range []addedToken{
		{ID: 1, Content: "<a>"},
		{ID: 2, Content: "<a>b"},
		{ID: 3, Content: "<l>", LStrip: true},
		{ID: 4, Content: "<r>", RStrip: true},
		{ID: 5, Content: "word", SingleWord: true},
		{ID: 6, Content: "  "},
		{ID: 7, Content: ""},
	} {
		m.add(tok.Content, tok)
	}
	for in, want := range map[string]string{
		"":                   "",
		"x":                  "x^",
		"<a>":                "1",
		"<a>b<a>c":           "2|1|c",
		"<<a>>":              "<^|1|>",
		"x \t<l> y":          "x^|3| y",
		"x <r> \n y":         "x ^|4|y",
		" <l>":               "3",
		"<r> <l>":            "4|3",
		"<r>   <a>":          "4|1",
		"word, words sword_": "5|, words sword_",
		"éword word":         "éword ^|5",
		"    x":              "6|6|x",
		"<r":                 "<r^",
	} {
		var got []string
		m.split(piece{in, true}, func(id int32) { got = append(got, string('0'+id)) }, func(p piece) {
			if p.start {
				p.text += "^"
			}
			got = append(got, p.text)
		})
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q is cut into %q, want %q", in, s, want)
		}
	}
}

// An added token that is in the model's vocabulary keeps the model's ID.
func TestAddedTokenOfModel(t *testing.T) {
	tok, err := parseTokenizer([]byte(spec(map[string]string{
		"added_tokens": `[{"id":9,"content":"ab","special":true},{"id":7,"content":"<x>","special":false}]`,
	})))
	if err != nil {
		t.Fatal(err)
	}
	if got := must(tok.Encode)("abb<x>"); !slices.Equal(got, []int32{2, 1, 7}) {
		t.Errorf("got %v, want [2 1 7]", got)
	}
	if got := must(tok.TokenBytes)(2); got != nil {
		t.Errorf("TokenBytes of a special token is %q, want nil", got)
	}
	if got := string(must(tok.TokenBytes)(7)); got != "<x>" {
		t.Errorf("TokenBytes(7) = %q, want <x>", got)
	}
	if n := tok.VocabSize(); n != 8 {
		t.Errorf("VocabSize() = %d, want 8", n)
	}
}

// Any file is either rejected or gives a usable tokenizer.
func FuzzTokenizerJSON(f *testing.F) {
	paths, err := filepath.Glob("testdata/tokenizers/*.json")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no tokenizers: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "the (on) 123 é<s>")
	}
	f.Add([]byte(spec(nil)), "ab")
	f.Fuzz(func(t *testing.T, data []byte, s string) {
		var tok *Tokenizer
		var err error
		if n := alloc.Bytes(func() { tok, err = parseTokenizer(data) }); n > 4<<20+100*len(data) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(data))
		}
		if err != nil || len(s) > 100 {
			return
		}
		ids, err := tok.Encode(s)
		if err != nil {
			return // a limit was exceeded
		}
		for _, id := range ids {
			_, _ = tok.TokenBytes(id)
		}
		_, _ = tok.Decode(ids)
	})
}

// The kind of a model without a type is that of the keys that it has, as old files leave it to the reader.
func TestModelKind(t *testing.T) {
	for _, c := range []struct{ model, want string }{
		{`{"vocab":{"a":0},"merges":[]}`, "BPE"},
		{`{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],"unk_token":null,"continuing_subword_prefix":null}`, "BPE"},
		{`{"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]],"dropout":null,"unk_token":"","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false}`, "BPE"},
		{`{"type":null,"vocab":{"a":0},"merges":[]}`, "BPE"},
		{`{"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0}}`, "WordPiece"},
		{`{"unk_token":"[UNK]","continuing_subword_prefix":"","vocab":{"[UNK]":0},"merges":null}`, "WordPiece"},
		{`{"unk_token":"a","vocab":{"a":0}}`, "WordLevel"},
		{`{"unk_id":0,"vocab":[["a",0.0]]}`, "Unigram"},
		{`{"vocab":[["a",-1]],"unk_id":null,"byte_fallback":null}`, "Unigram"},
		{`{"type":"WordLevel","unk_token":"a","vocab":{"a":0},"merges":[]}`, "WordLevel"},
	} {
		kind, err := modelKind(json.RawMessage(c.model))
		if err != nil || kind != c.want {
			t.Errorf("%s: %q, %v; want %q", c.model, kind, err, c.want)
		}
		if _, _, err := parseModel(json.RawMessage(c.model)); err != nil {
			t.Errorf("%s: %v", c.model, err)
		}
		dir := tree(t, map[string]string{"tokenizer.json": spec(map[string]string{"model": c.model})})
		if d, err := Describe(dir); err != nil || d.Kind != c.want {
			t.Errorf("%s: described as %v, %v", c.model, d, err)
		}
	}
	for _, model := range []string{`{}`, `{"vocab":{"a":0}}`, `{"vocab":{"a":0},"merges":null}`, `{"merges":["a b"]}`, `{"vocab":null,"unk_token":"a"}`} {
		if kind, err := modelKind(json.RawMessage(model)); err == nil || !strings.Contains(err.Error(), "the keys of no known kind") {
			t.Errorf("%s: %q, %v", model, kind, err)
		}
	}
}

// Every tokenizer has the ids that it has with the type of its model.
func TestModelsWithoutType(t *testing.T) {
	paths, err := filepath.Glob("testdata/tokenizers/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no tokenizers: %v", err)
	}
	for _, path := range paths {
		var f map[string]any
		readJSON(t, path, &f)
		delete(f["model"].(map[string]any), "type")
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTokenizer(data)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		want, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"the world", "ab ba 123 café", "</s> the <s>"} {
			if a, b := must(got.Encode)(s), must(want.Encode)(s); !slices.Equal(a, b) {
				t.Errorf("%s: %q is %v, want %v", path, s, a, b)
			}
		}
	}
}

// An added token without "normalized" is found in the normalized text unless it is special.
func TestAddedTokenDefaults(t *testing.T) {
	tok, err := parseTokenizer([]byte(spec(map[string]string{
		"normalizer":   `{"type":"Lowercase"}`,
		"added_tokens": `[{"id":7,"content":"<X>","special":true},{"id":8,"content":"<Y>"}]`,
	})))
	if err != nil {
		t.Fatal(err)
	}
	if got := must(tok.Encode)("<X><y><Y><x>"); !slices.Equal(got, []int32{7, 8, 8}) {
		t.Errorf("got %v, want [7 8 8]", got)
	}
}

// tree writes files into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
