package tasks

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// write writes a file and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustRead(t *testing.T, name string) *Task {
	t.Helper()
	all, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// TestFormats: a record in each published form has the prompt, the choices and the answer of lm-evaluation-harness's task.
func TestFormats(t *testing.T) {
	tests := []struct {
		task, name, text string
		want             Item
	}{
		{
			"hellaswag", "hellaswag_val.jsonl",
			`{"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he", "ctx": "A man is sitting on a roof. he", "split": "val", "split_type": "indomain", "label": 3, "endings": ["is using wrap.", " starts [pulling] up  tiles. [title] Next [step] Go", "a", "ÉÉ"], "source_id": "x"}`,
			Item{Context: "Roof shingle removal: A man is sitting on a roof. He", Delimiter: " ", Choices: []string{"is using wrap.", "starts up tiles.. Next Go", "a", "ÉÉ"}, Answer: 3},
		},
		{
			"arc_challenge", "ARC-Challenge-Test.jsonl",
			`{"id":"Mercury_7175875","question":{"stem":"Which?","choices":[{"text":"one","label":"A"},{"text":"two","label":"B"}]},"answerKey":"B"}`,
			Item{Context: "Question: Which?\nAnswer:", Delimiter: " ", Choices: []string{"one", "two"}, Answer: 1},
		},
		{
			"arc_easy", "arc_easy.json",
			`[{"id":"MCAS_2000_4_6","question":"Which?","choices":{"text":["one","two"],"label":["1","2"]},"answerKey":"1"}]`,
			Item{Context: "Question: Which?\nAnswer:", Delimiter: " ", Choices: []string{"one", "two"}, Answer: 0},
		},
		{
			"openbookqa", "test.jsonl",
			`{"id":"8-343","question":{"stem":"A person wants","choices":[{"text":"one","label":"A"},{"text":"two","label":"B"}]},"answerKey":"A"}`,
			Item{Context: "A person wants", Delimiter: " ", Choices: []string{"one", "two"}, Answer: 0},
		},
		{
			"openbookqa", "main.jsonl",
			`{"id":"8-343","question_stem":"A person wants","choices":{"text":["one","two"],"label":["A","B"]},"answerKey":" B"}`,
			Item{Context: "A person wants", Delimiter: " ", Choices: []string{"one", "two"}, Answer: 1},
		},
		{
			"piqa", "hub.jsonl", `{"goal":"Boil it","sol1":"Cold","sol2":"Hot","label":1}`,
			Item{Context: "Question: Boil it\nAnswer:", Delimiter: " ", Choices: []string{"Cold", "Hot"}, Answer: 1},
		},
		{
			"winogrande", "dev.jsonl", `{"qID":"3FCO4VKOZ4BJQ6IFC0VAIBK4KTWE7U-2","sentence":"Sarah was better than Maria so _ got the easy cases.","option1":"Sarah","option2":"Maria","answer":"2"}`,
			Item{Contexts: []string{"Sarah was better than Maria so Sarah", "Sarah was better than Maria so Maria"}, Delimiter: " ", Choices: []string{"got the easy cases.", "got the easy cases."}, Answer: 1},
		},
		{
			"boolq", "dev.jsonl", `{"question":"is it so","title":"It","answer":true,"passage":"It is."}`,
			Item{Context: "It is.\nQuestion: is it so?\nAnswer:", Delimiter: " ", Choices: []string{"no", "yes"}, Answer: 1},
		},
		{
			"boolq", "val.jsonl", `{"question":"is it so","passage":"It is.","idx":0,"label":false}`,
			Item{Context: "It is.\nQuestion: is it so?\nAnswer:", Delimiter: " ", Choices: []string{"no", "yes"}, Answer: 0},
		},
		{
			"mmlu", "hub.jsonl", `{"question":" How? ","subject":"abstract_algebra","choices":["a","b","c","d"],"answer":2}`,
			Item{Header: "The following are multiple choice questions (with answers) about abstract algebra.\n\n", Context: "How?\nA. a\nB. b\nC. c\nD. d\nAnswer:", Delimiter: " ", Choices: []string{"A", "B", "C", "D"}, Answer: 2, Section: "abstract_algebra"},
		},
		{
			"mmlu", "world_religions_test.csv", "\"How, \"\"then\"\"?\",a,b,c,d,D\n",
			Item{Header: "The following are multiple choice questions (with answers) about world religions.\n\n", Context: "How, \"then\"?\nA. a\nB. b\nC. c\nD. d\nAnswer:", Delimiter: " ", Choices: []string{"A", "B", "C", "D"}, Answer: 3, Section: "world_religions"},
		},
		{
			"lambada", "lambada_test_en.jsonl", `{"text": "in my palm is a clear stone , and inside it is a small ivory statue"}`,
			Item{Context: "in my palm is a clear stone , and inside it is a small ivory", Delimiter: " ", Choices: []string{"statue"}},
		},
		{
			"triviaqa", "unfiltered.json", `{"Data":[{"Question":"Who","QuestionId":"q","Answer":{"Value":"Bo","Aliases":["Bo","Bob"],"NormalizedAliases":["bo"]}}],"Version":1.0}`,
			Item{Context: "Question: Who?\nAnswer:", Delimiter: " ", References: []string{"Bo", "Bob"}, Source: "trivia question: Who"},
		},
		{
			"triviaqa", "hub.jsonl", `{"question":"Who","answer":{"aliases":[],"value":"Bo"}}`,
			Item{Context: "Question: Who?\nAnswer:", Delimiter: " ", References: []string{"Bo"}, Source: "trivia question: Who"},
		},
		{
			"cnn_dailymail", "test.jsonl", `{"article":"Long.\n","highlights":"Short.","id":"1"}`,
			Item{Context: "Long.\nTL;DR:", Delimiter: " ", References: []string{"Short."}, Source: "summarize: Long."},
		},
		{
			"multi_news", "test.jsonl", `{"document":"Long","summary":"Short"}`,
			Item{Context: "Long\nTL;DR:", Delimiter: " ", References: []string{"Short"}, Source: "summarize: Long"},
		},
		{
			"wmt", "test.jsonl", `{"translation":{"de":"Ja","en":"Yes"}}`,
			Item{Context: "English phrase: Yes\nGerman phrase:", Delimiter: " ", References: []string{"Ja"}, Source: "translate English to German: Yes"},
		},
		{
			"mine", "mine.jsonl", `{"context":"Two and two is","choices":["four","five"],"answer":0}`,
			Item{Context: "Two and two is", Delimiter: " ", Choices: []string{"four", "five"}},
		},
		{"code", "code.txt", `{"context":"f(x","choices":[")","]"],"answer":"B","delimiter":""}`, Item{Context: "f(x", Choices: []string{")", "]"}, Answer: 1}},
		{"spaced", "spaced.jsonl", `{"context":"Two","choices":[" a"," b"],"answer":"1"}`, Item{Context: "Two", Choices: []string{" a", " b"}, Answer: 1}},
		{"texts", "texts.jsonl", `{"prompt":"Say it:","references":["it"]}`, Item{Context: "Say it:", Delimiter: " ", References: []string{"it"}}},
		{"text", "text.jsonl", `{"prompt":"Say it:\n","references":"it"}`, Item{Context: "Say it:\n", References: []string{"it"}}},
	}
	for _, test := range tests {
		got := mustRead(t, write(t, test.name, test.text))
		if got.Name != test.task || len(got.Items) != 1 || !reflect.DeepEqual(got.Items[0], test.want) {
			t.Errorf("%s: task %s, items\n%+v, want %s\n%+v", test.name, got.Name, got.Items, test.task, test.want)
		}
		for _, m := range got.Metrics {
			if _, ok := metrics[m]; !ok {
				t.Errorf("%s: unknown metric %s", test.name, m)
			}
		}
	}
}

// TestLabelFiles: labels that are published in a file of their own, and the form of a file that is named.
func TestLabelFiles(t *testing.T) {
	path := write(t, "valid.jsonl", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\"}\n{\"goal\":\"h\",\"sol1\":\"a\",\"sol2\":\"b\"}\n")
	wantError(t, path, `valid.jsonl: piqa: the records have no labels, which must then be in a file beside them: open`)
	labels := strings.TrimSuffix(path, ".jsonl") + "-labels.lst"
	for text, want := range map[string]string{"1\n": "1 labels for 2 records", "1\n2\n": `line 2: "label" is 2, want one of 2 choices, counted from 0 (read as piqa)`} {
		if err := os.WriteFile(labels, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		wantError(t, path, want)
	}
	if err := os.WriteFile(labels, []byte("1\n0\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, path); got.Items[0].Answer != 1 || got.Items[1].Answer != 0 {
		t.Errorf("items %+v", got.Items)
	}
	wmt := write(t, "x.jsonl", `{"translation":{"de":"Ja","fr":"Oui"}}`)
	wantError(t, wmt, "name them, as in wmt_de-fr=FILE")
	wantError(t, "wmt_de-it="+wmt, `no text in it`)
	if got := mustRead(t, "wmt_fr-de="+wmt); got.Name != "wmt_fr-de" || got.Items[0].Source != "translate French to German: Oui" {
		t.Errorf("task %s, source %q", got.Name, got.Items[0].Source)
	}
	both, err := LoadAll([]string{"wmt_fr-de=" + wmt, "wmt_de-fr=" + wmt})
	if err != nil || AddExamples(both, "wmt_de-fr="+wmt) != nil || both[0].Examples != nil || both[1].Examples == nil {
		t.Errorf("tasks %+v with examples for the second (%v)", both, err)
	}
	arc := write(t, "ARC-Challenge-Test.jsonl", `{"question":{"stem":"q","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},"answerKey":"B"}`)
	for name, want := range map[string]string{"": "arc_challenge", "arc_easy=": "arc_easy", "arc=": "arc_challenge"} {
		if got := mustRead(t, name+arc); got.Name != want {
			t.Errorf("%s: task %s, want %s", name, got.Name, want)
		}
	}
	wantError(t, "piqa_easy="+arc, "there is no format piqa_easy")
}

func TestCompressedFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.jsonl.gz", "b.jsonl.gz"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		if _, err := z.Write([]byte(`{"text": "a b"}`)); err != nil || z.Close() != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	if got := mustRead(t, dir); got.Name != "lambada" || len(got.Items) != 2 {
		t.Errorf("task %s of %d items", got.Name, len(got.Items))
	}
}

// TestFileKinds: the same items in a table, compressed, in a glob and in the hub's cache are the same task.
func TestFileKinds(t *testing.T) {
	type item struct {
		Context string   `parquet:"context" json:"context"`
		Choices []string `parquet:"choices,list" json:"choices"`
		Answer  int64    `parquet:"answer" json:"answer"`
	}
	items := []item{{"a \"b\"", []string{"c", "d"}, 1}, {"e", []string{"f", "g", "h"}, 0}}
	var table, lines bytes.Buffer
	if err := parquet.Write(&table, items); err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if err := json.NewEncoder(&lines).Encode(it); err != nil {
			t.Fatal(err)
		}
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	t.Setenv("HF_HUB_CACHE", root)
	inHub := filepath.Join(root, "datasets--org--capitals/snapshots/c1")
	for path, content := range map[string][]byte{
		"capitals/x.jsonl": lines.Bytes(), "table/capitals.parquet": table.Bytes(), "packed/capitals.jsonl.zst": z.EncodeAll(lines.Bytes(), nil),
		inHub[len(root)+1:] + "/test.parquet": table.Bytes(),
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, content, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	want := mustRead(t, filepath.Join(root, "capitals"))
	for _, name := range []string{
		filepath.Join(root, "table/capitals.parquet"), filepath.Join(root, "packed/capitals.jsonl.zst"), filepath.Join(root, "capitals/*.jsonl"), "org/capitals",
	} {
		if got := mustRead(t, name); got.Name != want.Name || !reflect.DeepEqual(got.Items, want.Items) {
			t.Errorf("%s: task %s with %v, want %s with %v", name, got.Name, got.Items, want.Name, want.Items)
		}
	}
	wantError(t, "org/other", "download it: hf download --repo-type dataset org/other")
	wantError(t, filepath.Join(root, "*.none"), "no file matches")
}

// TestFolderNames: a folder of own items is one task, which has the folder's name.
func TestFolderNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "capitals.v2")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.jsonl", "b.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"context":"a","choices":["b","c"],"answer":0}`), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustRead(t, dir); got.Name != "capitals.v2" || len(got.Items) != 2 {
		t.Errorf("task %s of %d items", got.Name, len(got.Items))
	}
	if got := mustRead(t, filepath.Join(dir, "b.jsonl")); got.Name != "b" {
		t.Errorf("task %s of a file", got.Name)
	}
}

func wantError(t *testing.T, name, want string) {
	t.Helper()
	_, err := Load(name)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want one line with %q", name, err, want)
	}
}

func TestErrorsOfFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                              "x.jsonl: the file has no records",
		"{\"text\":\"a b\"}\n{\"text\":\"a\"":           "x.jsonl: line 2: want JSON objects, one on each line: unexpected EOF",
		"{\"text\":\"a b\"}\nnull":                      "line 2: want JSON objects, one on each line: found null",
		"\n{\"text\":\"a b\"}\n{\"text\":3}":            `line 3: "text" is 3, want a string (read as lambada)`,
		"{\"text\":\"a b\"}\n{\"text\":\"a\"}":          `line 2: "text" is one word`,
		`{"b":1,"a":2}`:                                 "line 1: no known format has the keys a, b; known are choices (context, choices, answer); references",
		`{"context":"a","choices":["b"],"answer":1}`:    `"answer" is 1, want one of 1 choices, counted from 0`,
		`{"context":"a","choices":["b"],"answer":null}`: `"answer" is null, want one of 1 choices`,
		`{"context":"a","choices":["b",""],"answer":0}`: "choice 1 is empty",
		`{"context":"a","choices":["b"],"answer":0}`:    "there is one choice, want at least two",
		`{"prompt":"a","references":[]}`:                `"references" is empty`,
		"{\"text\":\"a b\"}\n}\n{\"text\":\"c d\"}":     "after record 1, in line 2: want the end of the file: invalid character '}'",
		"{\"text\":\"a b\"}\n]\n{\"text\":\"c d\"}":     "after record 1, in line 2: want the end of the file: invalid character ']'",
		"[{\"text\":\"a b\"}]\n{\"text\":\"c d\"}":      "after record 1, in line 2: want the end of the file: found {",
		"[{\"text\":\"a b\"}\n":                         "after record 1, in line 1: want the end of the list, ]: ",
		"{\"text\":\"a b\"}\n{\"text\":\"caf\xe9 au\"}": "line 2 is not UTF-8: convert the file",
		`{"text":"a b "}`:                               `"text" has a space after its last word`,
		`{"question":"a","choices":{"text":["b"],"label":["A"]},"answerKey":"C"}`:   `"answerKey" is "C", which is the label of no choice`,
		`{"ctx_a":"a","ctx_b":"b","endings":["c"],"activity_label":"d","label":""}`: `"label" is "", want one of 1 choices`,
		`{"ctx_a":"a","ctx_b":"b","endings":["c"],"activity_label":"d"}`:            `"label" is missing: an item without an answer cannot be scored`,
		`{"sentence":"no blank","option1":"a","option2":"b","answer":"1"}`:          `"sentence" has no _`,
		`{"translation":{"de":"a","fr":"b","cs":"c"}}`:                              `"translation" has the languages [cs de fr], want en and another one`,
		`{"question":"a","answer":{"aliases":[],"value":""}}`:                       `"answer" has no aliases and no value`,
	} {
		wantError(t, write(t, "x.jsonl", text), want)
	}
	wantError(t, "nowhere", "there is no file nowhere and no task of that name: want a file, FORMAT=FILE, or one of identifiers, brackets")
	wantError(t, "hellaswag", "hellaswag is the format of a file, and there is no file of that name: give the file itself, as FILE or hellaswag=FILE")
	wantError(t, "mmlu=nowhere", "nowhere: no such file")
	wantError(t, "gsm8k="+write(t, "x.jsonl", `{"text":"a b"}`), "there is no format gsm8k; known are choices, references, hellaswag, ")
	wantError(t, "passkey:0", "want a number of tokens after the colon")
	wantError(t, write(t, "x.csv", "a,b\n"), "x.csv: want a question, four choices and the letter of the answer: record on line 1: wrong number of fields")
	path := write(t, "x.jsonl", `{"text":"a b"}`)
	if _, err := LoadAll([]string{path, path}); err == nil || !strings.Contains(err.Error(), "two tasks are called lambada") {
		t.Errorf("two tasks of one name: error %v", err)
	}
	if all, err := LoadAll([]string{"passkey:256", "passkey:512"}); err != nil || len(all) != 2 {
		t.Errorf("two lengths: %d tasks, error %v", len(all), err)
	}
	if _, err := LoadAll([]string{"passkey:256", "passkey:256"}); err == nil {
		t.Error("one length twice")
	}
}
