package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// format is the form of the records of a file.
type format struct {
	name    string
	keys    []string // that each record has; alternatives are separated by |
	kind    Kind
	metrics []string
	item    func(r record) (Item, error)

	maxTokens int
	stop      []string
	byFile    bool   // tasks are named after their files or folders
	called    string // name of the task, if it was given with the format's
}

// formats are the known ones. The first one whose keys a record has is that of its file.
func formats() []format {
	plain, norm := []string{"acc"}, []string{"acc", "acc_norm"}
	rouge := []string{"rouge1", "rouge2", "rougeL"}
	return []format{
		{name: "choices", keys: []string{"context", "choices", "answer"}, metrics: norm, item: ownChoices, byFile: true},
		{name: "references", keys: []string{"prompt", "references"}, kind: Generate, metrics: append([]string{"exact_match", "f1", "bleu"}, rouge...), item: ownReferences, maxTokens: 128, stop: []string{"\n"}, byFile: true},
		{name: "hellaswag", keys: []string{"ctx_a", "ctx_b", "endings"}, metrics: norm, item: hellaSwag},
		{name: "winogrande", keys: []string{"sentence", "option1", "option2"}, metrics: plain, item: winoGrande},
		{name: "piqa", keys: []string{"goal", "sol1", "sol2"}, metrics: norm, item: piqa},
		{name: "openbookqa", keys: []string{"question_stem", "choices", "answerKey"}, metrics: norm, item: openBookQA},
		{name: "arc", keys: []string{"question", "answerKey"}, metrics: norm, item: arc},
		{name: "boolq", keys: []string{"passage", "question"}, metrics: plain, item: boolQ},
		{name: "mmlu", keys: []string{"question", "choices", "answer"}, metrics: plain, item: mmlu},
		{name: "triviaqa", keys: []string{"question|Question", "answer|Answer"}, kind: Generate, metrics: []string{"exact_match", "f1:triviaqa"}, item: triviaQA, maxTokens: 32, stop: []string{"\n", ".", ","}},
		{name: "cnn_dailymail", keys: []string{"article", "highlights"}, kind: Generate, metrics: rouge, item: summary("article", "highlights"), maxTokens: 128, stop: []string{"\n\n"}},
		{name: "multi_news", keys: []string{"document", "summary"}, kind: Generate, metrics: rouge, item: summary("document", "summary"), maxTokens: 256, stop: []string{"\n\n"}},
		{name: "wmt", keys: []string{"translation"}, kind: Generate, metrics: []string{"bleu"}, item: translation("", ""), maxTokens: 128, stop: []string{"\n"}},
		{name: "lambada", keys: []string{"text"}, kind: LastWord, metrics: []string{"acc", "perplexity"}, item: lambada},
	}
}

// Formats returns the names of the formats of files.
func Formats() (names []string) {
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// formatOf returns the format with a name, or if that is empty, the format of a file's records.
func formatOf(path, name string, records []record) (format, error) {
	if name != "" {
		return named(name, path, records)
	}
	first := records[0]
	for _, f := range formats() {
		if !f.matches(first) {
			continue
		}
		if f.name == "arc" && looksLikeOpenBookQA(path, first) {
			return named("openbookqa", path, records)
		}
		return f.with(path, records)
	}
	return format{}, fmt.Errorf("line %d: no known format has the keys %s; known are %s", first.line, strings.Join(first.names(), ", "), describeFormats())
}

// named returns the format with a name. WMT's may be followed by a pair of languages, ARC's by a part: wmt_en-de, arc_easy.
func named(name, path string, records []record) (format, error) {
	if pair, ok := strings.CutPrefix(name, "wmt_"); ok {
		from, to, ok := strings.Cut(pair, "-")
		if !ok {
			return format{}, fmt.Errorf("format %s: want wmt_FROM-TO, such as wmt_en-de", name)
		}
		f, err := named("wmt", path, records)
		f.name, f.item = name, translation(from, to)
		return f, err
	}
	if name == "arc_easy" || name == "arc_challenge" {
		f, err := named("arc", path, records)
		f.called = name
		return f, err
	}
	for _, f := range formats() {
		if f.name == name {
			return f.with(path, records)
		}
	}
	return format{}, fmt.Errorf("there is no format %s; known are %s", name, strings.Join(Formats(), ", "))
}

func describeFormats() string {
	var all []string
	for _, f := range formats() {
		all = append(all, fmt.Sprintf("%s (%s)", f.name, strings.Join(f.keys, ", ")))
	}
	return strings.Join(all, "; ")
}

// matches reports whether a record has the keys of the format.
func (f format) matches(r record) bool {
	return !slices.ContainsFunc(f.keys, func(any string) bool {
		return !slices.ContainsFunc(strings.Split(any, "|"), func(key string) bool { return r.keys[key] != nil })
	})
}

// with returns the format with what is in a file beside the records.
func (f format) with(path string, records []record) (format, error) {
	if f.name != "piqa" && f.name != "winogrande" || records[0].keys["label"] != nil || records[0].keys["answer"] != nil {
		return f, nil
	}
	labels, err := readLabels(path)
	if err == nil && len(labels) != len(records) {
		err = fmt.Errorf("%d labels for %d records", len(labels), len(records))
	}
	if err != nil {
		return f, fmt.Errorf("%s: the records have no labels, which must then be in a file beside them: %w", f.name, err)
	}
	for i, r := range records {
		r.keys[map[string]string{"piqa": "label", "winogrande": "answer"}[f.name]] = json.RawMessage(labels[i])
	}
	return f, nil
}

// readLabels reads the labels of dev.jsonl from dev-labels.lst.
func readLabels(path string) ([]string, error) {
	path = strings.TrimSuffix(path, ".gz")
	base := strings.TrimSuffix(path, filepath.Ext(path))
	text, err := os.ReadFile(base + "-labels.lst")
	return strings.Fields(string(text)), err
}

// task returns an empty task for a file or folder with a name.
func (f format) task(name string) *Task {
	t := &Task{Name: f.name, Kind: f.kind, Metrics: f.metrics, format: f.name, maxTokens: f.maxTokens, stop: f.stop}
	switch {
	case f.called != "":
		t.Name = f.called
	case f.byFile:
		t.Name = name
	case f.name == "arc":
		for _, part := range []string{"easy", "challenge"} {
			if strings.Contains(strings.ToLower(name), part) {
				t.Name = "arc_" + part
			}
		}
	}
	return t
}

// checked returns the item if it can be scored.
func checked(it Item, err error) (Item, error) {
	switch {
	case err != nil:
		return it, err
	case it.Choices == nil && len(it.References) == 0:
		return it, errors.New("there are no references")
	case len(it.Choices) == 1:
		return it, errors.New("there is one choice, want at least two")
	case it.References == nil && (it.Answer < 0 || it.Answer >= len(it.Choices)):
		return it, fmt.Errorf("the answer is %d, want the index of one of %d choices", it.Answer, len(it.Choices))
	}
	for i, c := range it.Choices {
		if c == "" {
			return it, fmt.Errorf("choice %d is empty", i)
		}
	}
	return it, nil
}
