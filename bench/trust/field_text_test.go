package trust

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/internal/tokenizer"
)

const untyped = "testdata/field/tokenizer-model-without-type"

// The ids are those in the samples' README.
func TestTokenizersWithoutType(t *testing.T) {
	for name, want := range map[string][2][]int32{
		"tokenizer.json": {{260, 262, 33, 116, 117, 115, 264}, {117, 257, 33, 260, 33, 116, 264}},
		"unigram.json":   {{31, 33, 30, 3, 22, 23, 21, 32, 1}, {30, 31, 33, 3, 22, 32, 1}},
		"wordpiece.json": {{2, 7, 5, 44, 47, 43, 61, 3}, {2, 5, 7, 44, 61, 3}},
	} {
		tok, err := tokenizer.Load(filepath.Join(untyped, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range []string{"hello the string", "the hello sing"} {
			if got, err := tok.Encode(s); err != nil || !slices.Equal(got, want[i]) {
				t.Errorf("%s: %q is %v, %v; want %v", name, s, got, err, want[i])
			}
		}
	}
	dir, err := filepath.Abs(untyped)
	if err != nil {
		t.Fatal(err)
	}
	ok(t, run(t, t.TempDir(), "gqa-eval", "generate", dir, "--prompt", "hello the string", "--max-tokens", "4"))
	out := filepath.Join(t.TempDir(), "converted")
	ok(t, run(t, t.TempDir(), "gqa-convert", dir, "--groups", "2", "-o", out))
	ok(t, run(t, t.TempDir(), "gqa-eval", "generate", out, "--prompt", "the", "--max-tokens", "4"))
}

// ok fails the test unless a command succeeded, and returns its output.
func ok(t *testing.T, r result) string {
	t.Helper()
	r.clean(t)
	if r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.errOut)
	}
	return r.out
}

// refused fails the test unless a command failed with one line that contains all of want.
func refused(t *testing.T, r result, want ...string) {
	t.Helper()
	r.clean(t)
	if r.status != 1 || strings.Count(strings.TrimSpace(r.errOut), "\n") > 0 {
		t.Errorf("status %d: %s", r.status, r.errOut)
	}
	for _, s := range want {
		if !strings.Contains(r.errOut, s) {
			t.Errorf("it says %q, want %q in it", r.errOut, s)
		}
	}
}

// writeFiles writes files below a new folder; those whose names end in .gz are compressed.
func writeFiles(t *testing.T, content map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, s := range content {
		data := []byte(s)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			if _, err := z.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			data = b.Bytes()
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// edited returns a copy of the sample model with a changed tokenizer.json.
func edited(t *testing.T, change func(file map[string]any)) (dir string) {
	t.Helper()
	dir = sampleModel(t)
	path := filepath.Join(dir, "tokenizer.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	change(file)
	if data, err = json.Marshal(file); err == nil {
		err = os.WriteFile(path, data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Measurements do not depend on the age of a model's tokenizer.json.
func TestOldTokenizerFiles(t *testing.T) {
	corpus := filepath.Join(writeFiles(t, map[string]string{"a.go": strings.Repeat("func main() {\n\tfmt.Println(\"x\")\n}\n", 20)}), "a.go")
	measure := func(dir string) string {
		return ok(t, run(t, t.TempDir(), "gqa-eval", "quality", dir, "--data", corpus, "--seq-len", "64", "--json"))
	}
	want := measure(sampleModel(t))
	for name, change := range map[string]func(file map[string]any){
		"no type":   func(f map[string]any) { delete(f["model"].(map[string]any), "type") },
		"null type": func(f map[string]any) { f["model"].(map[string]any)["type"] = nil },
		"merges as lines, few keys": func(f map[string]any) {
			old := f["model"].(map[string]any)
			var lines []string
			for _, m := range old["merges"].([]any) {
				if pair, ok := m.([]any); ok {
					m = pair[0].(string) + " " + pair[1].(string)
				}
				lines = append(lines, m.(string))
			}
			f["model"] = map[string]any{"vocab": old["vocab"], "merges": lines}
			delete(f, "version")
			f["normalizer"], f["post_processor"] = nil, nil
		},
	} {
		if got := measure(edited(t, change)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	refused(t, run(t, t.TempDir(), "gqa-eval", "quality", edited(t, func(f map[string]any) {
		f["model"] = map[string]any{"vocab": map[string]any{"a": 0}}
	}), "--data", corpus), "tokenizer.json", "model: no type")
}

// A tokenizer with more ids than the model's rows works for texts that do not need them.
func TestTokenizerBeyondTheRows(t *testing.T) {
	dir := edited(t, func(f map[string]any) {
		f["added_tokens"] = append(f["added_tokens"].([]any), map[string]any{"id": 5000, "content": "<pad>", "special": true})
	})
	texts := writeFiles(t, map[string]string{"good.txt": strings.Repeat("package main\n", 50), "bad.txt": strings.Repeat("package <pad>\n", 50)})
	r := run(t, texts, "gqa-eval", "quality", dir, "--data", "good.txt", "--seq-len", "32")
	if ok(t, r); strings.Count(r.errOut, "\n") != 1 || !strings.Contains(r.errOut, "largest=5000 rows=2048") {
		t.Errorf("it says %s", r.errOut)
	}
	if r := run(t, texts, "gqa-eval", "quality", dir, "--data", "bad.txt", "--seq-len", "32"); r.status != 1 || !strings.Contains(r.errOut, `"<pad>", id 5000`) {
		t.Errorf("status %d: %s", r.status, r.errOut)
	}
}

// A dataset folder gives the same measurements as its rows alone.
func TestDatasetFolders(t *testing.T) {
	model := sampleModel(t)
	rows := []string{"package main\n\nfunc main() {}\n", "import \"fmt\"\n\ntype T struct{ a, b int }\n", "// A comment that goes on for a while.\n"}
	var lines, python, renamed strings.Builder
	for _, row := range rows {
		record := map[string]any{"text": row, "id": 1}
		data, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(data, '\n'))
		python.WriteString(strings.Replace(string(data), `"id":1`, `"id":NaN,"low":-Infinity`, 1) + "\n")
		renamed.WriteString(strings.Replace(string(data), `"text"`, `"content"`, 1) + "\n")
	}
	list, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	card := "---\nlicense: mit\n---\n" + strings.Repeat("The card of a data set.\n", 500)
	quality := func(folder map[string]string, more ...string) result {
		args := append([]string{"quality", model, "--data", ".", "--seq-len", "8", "--json"}, more...)
		return run(t, writeFiles(t, folder), "gqa-eval", args...)
	}
	want := ok(t, quality(map[string]string{"train.jsonl": lines.String()}))
	array := "[" + strings.Join(strings.Split(strings.TrimSpace(lines.String()), "\n"), ",\n") + "]"
	for name, folder := range map[string]map[string]string{
		"c4":              {"README.md": card, ".gitattributes": "*", "en/c4-train.00000-of-00001.json.gz": lines.String()},
		"an array":        {"README.md": card, "LICENSE": card, "train.json": array},
		"a zipped array":  {"README": card, "dataset_infos.json": "{}", "train.json.gz": array},
		"strings":         {"data/strings.json": string(list)},
		"from Python":     {"state.json": "{\"_data_files\": []}", "dataset_info.json": "{}", "train.jsonl.gz": python.String()},
		"with null texts": {"CITATION.cff": card, "train.jsonl": "{\"text\": null}\n" + lines.String()},
		"a table beside":  {"train.jsonl": lines.String(), "small.arrow": "PAR1"},
	} {
		r := quality(folder)
		if got := ok(t, r); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		for file := range folder {
			left := !strings.Contains(file, "json") && !strings.HasPrefix(file, ".") || strings.HasPrefix(file, "state") || strings.HasPrefix(file, "dataset_info")
			if left != strings.Contains(r.errOut, file) {
				t.Errorf("%s: it says %q of %s", name, r.errOut, file)
			}
		}
	}
	refused(t, quality(map[string]string{"README.md": card, "data/train-00000.arrow": "ARROW..", "data/train-00001.arrow": "ARRO"}),
		"data/train-00000.arrow, data/train-00001.arrow", ".arrow is not supported", "to_json")
	refused(t, quality(map[string]string{"README.md": card, "train.jsonl.xz": "...."}), "train.jsonl.xz", "xz -dk")
	refused(t, quality(map[string]string{"train.parquet": "...."}), "train.parquet", "is not Parquet")
	refused(t, quality(map[string]string{"train.jsonl.zst": "...."}), "train.jsonl.zst", "is not zstd-compressed")
	refused(t, quality(map[string]string{"README.md": card}), "README.md")
	refused(t, quality(map[string]string{"train.jsonl": renamed.String()}), `no "text"`, `"id", "content"`, "--text-key content")
	if got := ok(t, quality(map[string]string{"train.jsonl": renamed.String()}, "--text-key", "content")); got != want {
		t.Errorf("--text-key: %s, want %s", got, want)
	}
}

// Every command that reads text has a flag for its key.
func TestTextKeyOfCommands(t *testing.T) {
	model := sampleModel(t)
	record, err := json.Marshal(map[string]string{"content": strings.Repeat("func main() {\n\tprintln(1)\n}\n", 100)})
	if err != nil {
		t.Fatal(err)
	}
	dir := writeFiles(t, map[string]string{"a.jsonl": string(record), "b.jsonl": string(record) + "\n"})
	for name, args := range map[string][]string{
		"gqa-convert": {model, "--groups", "2", "--method", "calibrated", "--calibration", "a.jsonl", "--calibration-tokens", "256", "-o", "converted"},
		"gqa-train":   {"run", "--model", model, "--data", "a.jsonl", "--valid", "b.jsonl", "--steps", "1", "--warmup", "0", "--batch", "1", "--seq-len", "16", "-o", "run"},
		"gqa-eval":    {"sweep", "--model", model, "--data", "a.jsonl", "--valid", "b.jsonl", "--steps", "1", "--set", "schedule.warmup=0", "--set", "batch=1", "--set", "seq_len=16", "--groups", "2", "--methods", "calibrated", "--eval-windows", "2", "--context", "16", "--batch", "1", "-o", "sweep"},
	} {
		refused(t, run(t, dir, name, args...), "a.jsonl", "--text-key content")
		ok(t, run(t, dir, name, append(args, "--text-key", "content")...))
	}
}

// A tokenizer.json constructed to take unlimited time or memory fails with one line.
func TestHostileTokenizers(t *testing.T) {
	corpus := writeFiles(t, map[string]string{"a.txt": strings.Repeat("a", 200000)})
	grow := map[string]any{"type": "Replace", "pattern": map[string]any{"String": "a"}, "content": strings.Repeat("a", 10000)}
	for want, change := range map[string]func(f map[string]any){
		"replacements are too long": func(f map[string]any) {
			f["normalizer"] = map[string]any{"type": "Sequence", "normalizers": []any{grow, grow, grow}}
		},
		"expected one character": func(f map[string]any) {
			f["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": strings.Repeat("a", 10000)}
		},
	} {
		r := run(t, corpus, "gqa-eval", "quality", edited(t, change), "--data", "a.txt", "--max-windows", "4", "--seq-len", "16")
		refused(t, r, want, "tokenizer.json")
	}
	if *full { // it takes as long as a pattern may
		r := run(t, corpus, "gqa-eval", "quality", edited(t, func(f map[string]any) {
			f["pre_tokenizer"] = map[string]any{"type": "Split", "pattern": map[string]any{"Regex": "(a|aa)+c"}, "behavior": "Isolated"}
		}), "--data", "a.txt", "--max-windows", "4", "--seq-len", "16")
		refused(t, r, "to search a text of", "tokenizer.json")
	}
}
