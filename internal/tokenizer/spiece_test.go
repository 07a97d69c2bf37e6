package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gqa/internal/alloc"
)

// protoBytes and protoVarint are fields of a protobuf message.
func protoBytes(num int, data string) string {
	head := binary.AppendUvarint(nil, uint64(num)<<3|2)
	return string(binary.AppendUvarint(head, uint64(len(data)))) + data
}

func protoVarint(num int, value uint64) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(num)<<3), value))
}

func protoFloat(num int, value float32) string {
	head := binary.AppendUvarint(nil, uint64(num)<<3|5)
	return string(binary.LittleEndian.AppendUint32(head, math.Float32bits(value)))
}

// spm writes a SentencePiece model file.
func spm(pieces []spPiece, trainer, normalizer string) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(protoBytes(1, protoBytes(1, p.text)+protoFloat(2, p.score)+protoVarint(3, uint64(p.kind))))
	}
	return b.String() + protoBytes(2, protoVarint(4, uint64(len(pieces)))+trainer) + protoBytes(3, protoBytes(1, "identity")+normalizer)
}

// spmOf returns a SentencePiece model of a tokenizer.json's pieces; of BPE, scores are as the merges have them.
func spmOf(t *testing.T, name, trainer, normalizer string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/tokenizers", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := describe(data)
	if err != nil {
		t.Fatal(err)
	}
	ranks := map[string]int{}
	for i, m := range d.Merges {
		ranks[m[0]+m[1]] = i
	}
	var pieces []spPiece
	var f struct {
		Model struct{ Vocab json.RawMessage }
	}
	var vocab []json.RawMessage
	ids := map[string]int{}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(f.Model.Vocab, &vocab) != nil && json.Unmarshal(f.Model.Vocab, &ids) != nil {
		t.Fatalf("%s: no vocabulary", name)
	}
	for _, x := range d.Tokens[:max(len(vocab), len(ids))] { // the later ones are not part of the model
		p := spPiece{x.Text, float32(x.Score), normalPiece}
		rank, merged := ranks[x.Text]
		if d.Kind == "BPE" {
			p.score = -float32(len(ranks))
		}
		switch {
		case merged:
			p.score = -float32(rank)
		case x.Unknown:
			p.kind = unknownPiece
		case x.Special:
			p.kind = controlPiece
		case x.Added:
			p.kind = userPiece
		case strings.HasPrefix(x.Text, "<0x"):
			p.kind = bytePiece
		case d.Kind == "BPE" && utf8.RuneCountInString(x.Text) > 1:
			p.kind = 5 // unused: no merge leads to it
		}
		pieces = append(pieces, p)
	}
	return spm(pieces, trainer, normalizer)
}

// TestSpiece: a folder with only the model file has the ids, and the text of them, that its tokenizer.json gives.
func TestSpiece(t *testing.T) {
	bpe := protoVarint(3, bpeModel) + protoVarint(35, 1)
	for _, c := range []struct {
		name, file, config, trainer, normalizer string
	}{
		{"t5", "spiece.model", `{"tokenizer_class": "T5Tokenizer", "extra_ids": 1}`, protoVarint(3, unigramModel), ""},
		{"llama2", "tokenizer.model", `{"tokenizer_class": "LlamaTokenizerFast"}`, bpe, protoVarint(4, 0)},
		{"gemma", "tokenizer.model", `{"tokenizer_class": "GemmaTokenizer"}`, bpe, protoVarint(3, 0) + protoVarint(4, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := Load(filepath.Join("testdata/tokenizers", c.name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			dir := tree(t, map[string]string{c.file: spmOf(t, c.name, c.trainer, c.normalizer), "tokenizer_config.json": c.config})
			got, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{
				"", "a", "the", "the world", "ab ba the", "café", "the</s>the", "the\nworld\n\n", "日本 𝔘", "<unk> a<pad> b", "<extra_id_0> a",
			} {
				a, b := must(got.Encode)(s), must(want.Encode)(s)
				if !slices.Equal(a, b) {
					t.Errorf("%q: %v, want %v", s, a, b)
				}
				if x, y := must(got.Decode)(a), must(want.Decode)(b); x != y {
					t.Errorf("%v: decoded to %q, want %q", a, x, y)
				}
			}
			a, named := got.EOS()
			if b, _ := want.EOS(); a != b || !named {
				t.Errorf("text ends with %d, want %d", a, b)
			}
		})
	}
}

// TestSpieceSpaces: what SentencePiece's normalizer makes of spaces, with and without its options.
func TestSpieceSpaces(t *testing.T) {
	pieces := []spPiece{{"<unk>", 0, unknownPiece}, {"<s>", 0, controlPiece}, {"</s>", 0, controlPiece}}
	for _, s := range []string{"▁", "a", "b", "▁a", "▁b", "▁▁"} {
		pieces = append(pieces, spPiece{s, -float32(len(pieces)), normalPiece})
	}
	const class = `{"tokenizer_class": "LlamaTokenizer", "add_bos_token": false`
	bpe, verbatim := protoVarint(3, bpeModel), protoVarint(4, 0)
	for _, c := range []struct {
		config, normalizer, text string
		want                     []int32
	}{
		{class + `}`, "", "  a   b ", []int32{6, 7}},
		{class + `}`, verbatim, " a", []int32{3, 6}},
		{class + `}`, verbatim, "a  b", []int32{6, 3, 7}},
		{class + `}`, verbatim + protoVarint(3, 0), "a b", []int32{4, 7}},
		{class + `}`, verbatim, "a</s>b", []int32{6, 2, 7}},
		{class + `, "legacy": false}`, verbatim, "a</s>b", []int32{6, 2, 5}},
		{class + `, "add_eos_token": true}`, verbatim, "a", []int32{6, 2}},
		{class + `, "add_bos_token": true}`, verbatim, "a", []int32{1, 6}},
		{class + `, "added_tokens_decoder": {"9": {"content": "<end>", "special": true}}}`, verbatim, "a<end>", []int32{6, 9}},
	} {
		tok, err := Load(tree(t, map[string]string{"tokenizer.model": spm(pieces, bpe, c.normalizer), "tokenizer_config.json": c.config}))
		if err != nil {
			t.Fatal(err)
		}
		if got := must(tok.Encode)(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s, %q: %v, want %v", c.config, c.text, got, c.want)
		}
	}
}

func TestSpieceDescribe(t *testing.T) {
	dir := tree(t, map[string]string{"spiece.model": spmOf(t, "t5", "", ""), "config.json": `{"model_type": "umt5"}`})
	d, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "Unigram" || d.Special["eos_token"] != 1 || d.Special["pad_token"] != 0 || d.Special["unk_token"] != 2 || !slices.Equal(d.After, []int32{1}) {
		t.Errorf("%s, special tokens %v, texts end with %v", d.Kind, d.Special, d.After)
	}
	if x := d.Tokens[3]; x.Text != "▁" || x.Score != -2 || x.Added {
		t.Errorf("token 3 is %v", x)
	}
}

func TestSpieceErrors(t *testing.T) {
	one := []spPiece{{"a", 0, normalPiece}}
	for name, c := range map[string]struct{ file, want string }{
		"empty":      {"", "without pieces"},
		"cut":        {spm(one, "", "")[:5], "protobuf ends early"},
		"text":       {"hello there", "protobuf ends early"},
		"too long":   {spm([]spPiece{{strings.Repeat("a", maxPiece), 0, normalPiece}}, "", ""), "want at most 4096"},
		"of words":   {spm(one, protoVarint(3, 3), ""), "want unigram or BPE"},
		"of suffix":  {spm(one, protoVarint(24, 1), ""), "mark the spaces before words"},
		"of no end":  {spm(one, "", ""), "eos_token"},
		"of no mark": {spm(one, "", protoVarint(5, 0)), "mark the spaces before words"},
	} {
		_, err := Load(tree(t, map[string]string{"spiece.model": c.file, "config.json": `{"model_type": "t5"}`}))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "spiece.model") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", name, err, c.want)
		}
	}
	_, err := Load(tree(t, map[string]string{"spiece.model": spm(one, "", ""), "config.json": `{"model_type": "albert"}`}))
	if err == nil || !strings.Contains(err.Error(), "names no supported class") {
		t.Errorf("unknown class: %v", err)
	}
}

// Any file is either rejected or gives a usable tokenizer.
func FuzzSentencePiece(f *testing.F) {
	pieces := []spPiece{{"<unk>", 0, unknownPiece}, {"</s>", 0, controlPiece}, {"▁a", -1, normalPiece}, {"b", -2, normalPiece}, {"▁ab", -3, normalPiece}}
	f.Add([]byte(spm(pieces, protoVarint(3, bpeModel), "")), "ab a")
	f.Add([]byte(spm(pieces, "", protoVarint(4, 0))), "ab a")
	f.Fuzz(func(t *testing.T, data []byte, s string) {
		var tok *Tokenizer
		if n := alloc.Bytes(func() {
			m, err := parseSentencePiece(data)
			if err != nil {
				return
			}
			file, err := m.file(spieceRules{}, &configFile{}, nil)
			if err != nil {
				return
			}
			if tok, err = parseTokenizer(file); err != nil {
				tok = nil
			}
		}); n > 4<<20+1000*len(data) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(data))
		}
		if tok != nil && len(s) < 100 {
			if ids, err := tok.Encode(s); err == nil {
				_, _ = tok.Decode(ids)
			}
		}
	})
}
