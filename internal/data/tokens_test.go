package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/internal/tokenizer"
)

const vocab = 2048

// sampleModel returns the folder of the embedded model, whose tokenizer has as many IDs as the model has rows.
func sampleModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeTensor(t *testing.T, spec checkpoints.Spec, values any) (path string) {
	t.Helper()
	dir := t.TempDir()
	err := checkpoints.Write(dir, []checkpoints.Spec{spec}, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		return binary.Write(w, binary.LittleEndian, values)
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "model.safetensors")
}

func mustLoad(t *testing.T, data, dir string, max int) *Tokens {
	t.Helper()
	s, err := LoadTokens(t.Context(), data, dir, vocab, Options{MaxTokens: max})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t *testing.T, tok *tokenizer.Tokenizer, s string) []int32 {
	t.Helper()
	ids, err := tok.EncodePlain(s)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// Documents are followed by the end-of-text token in every kind of file.
func TestTexts(t *testing.T) {
	dir := sampleModel(t)
	tok, err := LoadTokenizer(dir, vocab)
	if err != nil {
		t.Fatal(err)
	}
	end, ok := tok.EOS()
	if !ok {
		t.Fatal("the sample's tokenizer has no end of text")
	}
	one, two := "package a\n", "func b() {}\n"
	both := slices.Concat(encode(t, tok, one), []int32{end}, encode(t, tok, two), []int32{end})
	for path, want := range map[string][]int32{
		put(t, "a.txt", one+"<|endoftext|>"+two):                                     both,
		put(t, "a.jsonl", fmt.Sprintf("{\"text\": %q}\n{\"text\": %q}\n", one, two)): both,
		put(t, "a.go", two): slices.Concat(encode(t, tok, two), []int32{end}),
	} {
		s := mustLoad(t, path, dir, 0)
		if !slices.Equal(s.IDs, want) || s.Name != path || s.Tokenizer == nil {
			t.Errorf("%s: ids %v, name %s; want %v", path, s.IDs, s.Name, want)
		}
		if first := mustLoad(t, path, dir, 3); !slices.Equal(first.IDs, want[:3]) {
			t.Errorf("%s: the first three ids are %v, want %v", path, first.IDs, want[:3])
		}
		if all := mustLoad(t, path, dir, 1000); !slices.Equal(all.IDs, want) {
			t.Errorf("%s: a bound beyond the end: %v", path, all.IDs)
		}
	}
}

func TestSampleSplits(t *testing.T) {
	dir := sampleModel(t)
	for _, split := range []string{"train", "val"} {
		s := mustLoad(t, SamplePrefix+split, dir, 5000)
		raw, err := sample.Corpus(split)
		if err != nil {
			t.Fatal(err)
		}
		document, _, _ := strings.Cut(string(raw), "<|endoftext|>")
		if text, err := s.Tokenizer.Decode(s.IDs); err != nil || len(s.IDs) != 5000 || s.Name != SamplePrefix+split ||
			!strings.HasPrefix(text, document[:min(200, len(document))]) {
			t.Errorf("%s: %d ids of %s, which begin %.40q", split, len(s.IDs), s.Name, text)
		}
	}
}

func TestIDs(t *testing.T) {
	shape := []int{2, 3}
	for name, path := range map[string]string{
		"int64": writeTensor(t, checkpoints.Spec{Name: "input_ids", DType: checkpoints.I64, Shape: shape}, []int64{5, 0, 7, vocab - 1, 1, 2}),
		"int32": writeTensor(t, checkpoints.Spec{Name: "input_ids", DType: checkpoints.I32, Shape: shape}, []int32{5, 0, 7, vocab - 1, 1, 2}),
	} {
		s := mustLoad(t, path, "no tokenizer is needed", 0)
		if want := []int32{5, 0, 7, vocab - 1, 1, 2}; !slices.Equal(s.IDs, want) || s.Tokenizer != nil || s.Name != path {
			t.Errorf("%s: %+v, want %v", name, s, want)
		}
		if first := mustLoad(t, path, "", 4); !slices.Equal(first.IDs, s.IDs[:4]) {
			t.Errorf("%s: the first four ids are %v", name, first.IDs)
		}
		c, err := checkpoints.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, got, err := ReadIDs(c, "input_ids", vocab); err != nil || !slices.Equal(got, shape) {
			t.Errorf("%s: shape %v, %v; want %v", name, got, err, shape)
		}
	}
}

func TestRefuses(t *testing.T) {
	dir := sampleModel(t)
	ids := func(dtype checkpoints.DType, name string, values any) string {
		return writeTensor(t, checkpoints.Spec{Name: name, DType: dtype, Shape: []int{1, 2}}, values)
	}
	float := ids(checkpoints.F32, "input_ids", []float32{1, 2})
	for _, c := range []struct {
		name, data, dir string
		vocab           int
		want            string
	}{
		{"no file", "nowhere.txt", dir, vocab, "nowhere.txt"},
		{"no ids", "nowhere.safetensors", dir, vocab, "nowhere.safetensors"},
		{"no such kind", put(t, "a.exe", "x"), dir, vocab, `unsupported file type; expected .txt`},
		{"bad json", put(t, "a.jsonl", "{\"text\": 1}\n"), dir, vocab, "line 1"},
		{"no such split", "sample:test", dir, vocab, `no split "test"; want train or val`},
		{"no tokenizer", put(t, "a.txt", "x"), t.TempDir(), vocab, "has no tokenizer"},
		{"another model's tokenizer", put(t, "a.txt", "package x"), dir, 939, `token 0 of the text is "package", id 939 of the tokenizer, but the model's vocabulary has 939 rows`},
		{"not safetensors", put(t, "a.safetensors", "text"), dir, vocab, "a.safetensors"},
		{"id too large", ids(checkpoints.I64, "input_ids", []int64{1, vocab}), dir, vocab, "input_ids: id 2048 at 1 is outside the model's vocabulary of 2048"},
		{"id below 0", ids(checkpoints.I64, "input_ids", []int64{-5, 1}), dir, vocab, "id -5 at 0"},
		{"id beyond int32", ids(checkpoints.I64, "input_ids", []int64{1 << 32, 1}), dir, vocab, "id 4294967296 at 0"},
		{"not integers", float, dir, vocab, float},
		{"another tensor", ids(checkpoints.I64, "ids", []int64{1, 2}), dir, vocab, "there is no tensor input_ids; the file has ids"},
		{"a model", filepath.Join(dir, "model.safetensors"), dir, vocab, "mlp.up_proj.weight and 33 more"},
	} {
		_, err := LoadTokens(t.Context(), c.data, c.dir, c.vocab, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LoadTokens(ctx, "sample:val", dir, vocab, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A tokenizer with ids that the model has no rows for is warned of, once, and serves texts without them.
func TestMoreIDsThanRows(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	dir, rows := sampleModel(t), 946
	for _, text := range []string{"package", "package package"} {
		if s, err := LoadTokens(t.Context(), put(t, "a.txt", text), dir, rows, Options{}); err != nil || len(s.IDs) < 2 {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "largest=2047 rows=946") {
		t.Errorf("it says: %s", s)
	}
}

func TestLoadTextKey(t *testing.T) {
	dir := sampleModel(t)
	path := put(t, "a.jsonl", "{\"text\":null,\"content\":\"package a\"}\n")
	s, err := LoadTokens(t.Context(), path, dir, vocab, Options{TextKey: "content"})
	if err != nil || len(s.IDs) < 2 {
		t.Errorf("%v, %v", s, err)
	}
	_, err = LoadTokens(t.Context(), path, dir, vocab, Options{TextKey: "title"})
	if err == nil || !strings.Contains(err.Error(), `no "title"; its keys are "text", "content"`) {
		t.Errorf("got error %v", err)
	}
}
