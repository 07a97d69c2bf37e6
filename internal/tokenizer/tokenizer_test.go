package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

const gopher = "../../checkpoints/sample/gopher-4m"

func loadGopher(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load(gopher)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// must wraps a tokenizer's method that is not expected to fail.
func must[A, B any](method func(A) (B, error)) func(A) B {
	return func(a A) B {
		b, err := method(a)
		if err != nil {
			panic(err)
		}
		return b
	}
}

type example struct {
	Text string  `json:"text"`
	IDs  []int32 `json:"ids"`
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readExamples(t testing.TB) (list []example) {
	t.Helper()
	readJSON(t, filepath.Join(gopher, "tokens.json"), &list)
	return list
}

// The IDs in tokens.json come from the tokenizers library.
func TestGopherIDs(t *testing.T) {
	tok := loadGopher(t)
	for _, e := range readExamples(t) {
		for range 2 { // the second time from the cache
			if got := must(tok.Encode)(e.Text); !slices.Equal(got, e.IDs) {
				t.Errorf("Encode(%q)\n got %v\nwant %v", e.Text, got, e.IDs)
			}
		}
		if got := must(tok.Decode)(e.IDs); got != e.Text {
			t.Errorf("Decode(%v)\n got %q\nwant %q", e.IDs, got, e.Text)
		}
	}
}

func TestGopherTables(t *testing.T) {
	tok := loadGopher(t)
	if n := tok.VocabSize(); n != 2048 {
		t.Errorf("VocabSize() = %d, want 2048", n)
	}
	if id, ok := tok.EOS(); id != 0 || !ok {
		t.Errorf("EOS() = %d, %v, want 0, true", id, ok)
	}
	for id, want := range map[int32]string{199: "\n", 290: "ing", 939: "package", 823: " le"} {
		if got := string(must(tok.TokenBytes)(id)); got != want {
			t.Errorf("TokenBytes(%d) = %q, want %q", id, got, want)
		}
	}
	for _, id := range []int32{0, 2048, -1} {
		if got := must(tok.TokenBytes)(id); got != nil {
			t.Errorf("TokenBytes(%d) = %q, want nil", id, got)
		}
	}
}

// The concatenated TokenBytes are the text.
func TestTokenBytesSpell(t *testing.T) {
	tok := loadGopher(t)
	for _, s := range []string{"func main() {}\n", "naïve 世界 🚀", "\x00\xff\xfe", strings.Repeat("long", 100)} {
		var got []byte
		for _, id := range must(tok.Encode)(s) {
			got = append(got, must(tok.TokenBytes)(id)...)
		}
		if string(got) != s {
			t.Errorf("got %q, want %q", got, s)
		}
	}
}

func TestConcurrentEncode(t *testing.T) {
	tok := loadGopher(t)
	examples := readExamples(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, e := range examples {
				if !slices.Equal(must(tok.Encode)(e.Text), e.IDs) {
					t.Errorf("Encode(%q) differs between goroutines", e.Text)
				}
			}
		})
	}
	wg.Wait()
}

func TestDecodeIllFormed(t *testing.T) {
	tok := loadGopher(t)
	for in, want := range map[string]string{
		"\xe2\x80":         "\uFFFD",
		"\xe2\x80\xe2":     "\uFFFD\uFFFD",
		"a\xf0\x9f\x9ab":   "a\uFFFDb",
		"\xff\xfe":         "\uFFFD\uFFFD",
		"\xed\xa0\x80":     "\uFFFD\uFFFD\uFFFD",
		"\xf4\x90\x80\x80": "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\uFFFD":           "\uFFFD",
	} {
		if got := must(tok.Decode)(must(tok.Encode)(in)); got != want {
			t.Errorf("%q decodes to %q, want %q", in, got, want)
		}
	}
}

func FuzzEncodeDecode(f *testing.F) {
	tok := loadGopher(f)
	for _, e := range readExamples(f) {
		f.Add(e.Text)
	}
	f.Add("<|endoftext|<|endoftext|>>")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip()
		}
		if got := must(tok.Decode)(must(tok.Encode)(s)); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	})
}

// BenchmarkEncode encodes this package's source: with a scanner and the cache, as
// one long word, and with an expression.
func BenchmarkEncode(b *testing.B) {
	var src strings.Builder
	paths, err := filepath.Glob("*.go")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		src.Write(data)
	}
	for _, path := range []string{gopher, "testdata/tokenizers/llama2.json", "testdata/tokenizers/llama3.json", "testdata/tokenizers/bloom.json"} {
		b.Run("tokenizer="+strings.TrimSuffix(filepath.Base(path), ".json"), func(b *testing.B) {
			tok, err := Load(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(src.Len()))
			b.ReportAllocs()
			for b.Loop() {
				must(tok.EncodePlain)(src.String())
			}
		})
	}
}
