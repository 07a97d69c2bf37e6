package recipe

import (
	"reflect"
	"strings"
	"testing"
)

// A mixture is the same by YAML, by a setting and after it was written.
func TestCorpora(t *testing.T) {
	want := []Corpus{{"a.jsonl", 3, "body"}, {"b/*.parquet", 1, "content"}, {"sample:train", 0.5, "body"}}
	const list = "[{path: a.jsonl, weight: 3}, {path: 'b/*.parquet', text_key: content}, {path: 'sample:train', weight: 0.5}]"
	first, err := Load(recipeFile(t, "text_key: body\ndata:\n  - path: a.jsonl\n    weight: 3\n  - path: b/*.parquet\n    text_key: content\n  - {path: sample:train, weight: 0.5}\n"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(recipeFile(t, "text_key: body\ndata: "+list+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	third := second
	if err := third.Set("data=" + list); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Recipe{first, second, third} {
		got, err := r.Corpora()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		if err := r.SetCorpora(got); err != nil {
			t.Fatal(err)
		}
		text, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Load(recipeFile(t, string(text)))
		if err != nil || back.Diff(r) != nil {
			t.Errorf("%v, %v", back.Diff(r), err)
		}
	}
	for _, path := range []string{"a.jsonl", "[ab].jsonl", ""} {
		r := Recipe{Data: path, TextKey: "k"}
		if got, err := r.Corpora(); err != nil || !reflect.DeepEqual(got, []Corpus{{path, 1, "k"}}) {
			t.Errorf("%+v, %v", got, err)
		}
		if err := r.SetCorpora([]Corpus{{"/x/" + path, 1, "k"}}); err != nil || r.Data != "/x/"+path {
			t.Errorf("%q, %v", r.Data, err)
		}
	}
}

func TestCorporaErrors(t *testing.T) {
	for text, want := range map[string]string{
		"data: [a.jsonl]":                          "data is a list, want each of it as {path: PATH",
		"valid: [{path: a}]":                       "valid is a list, want a value",
		"data: [{path: a, weights: 1}]":            "data is a list, want each of it as {path: PATH, weight: X, text_key: KEY}: ",
		"data: [{weight: 1}]":                      "data: part 1 of the list has no path",
		"data: [{path: a}, {path: b, weight: -1}]": "data: the weight of b is -1, want more than 0",
		"data: [{path: a, weight: 1e999}]":         "data is a list",
		"packing: docs\ndata: a":                   `packing is "docs", want one of [windows documents]`,
	} {
		r, err := Load(recipeFile(t, text))
		if err == nil {
			r.Model, r.Steps = "m", 1
			err = r.Resolve()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}
