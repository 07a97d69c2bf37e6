package tasks

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints/sample"
	"gqa/eval"
	"gqa/eval/score"
	"gqa/internal/data"
	"gqa/internal/golden"
	"gqa/internal/ops"
	"gqa/internal/tokenizer"
)

func gopher(t *testing.T) *eval.Model {
	t.Helper()
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return mustLoad(t, dir)
}

func mustLoad(t *testing.T, dir string) *eval.Model {
	t.Helper()
	m, err := eval.LoadModel(t.Context(), dir, eval.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tinyModel is a tiny model with a tokenizer of whole words, w0 to w99.
func tinyModel(t *testing.T, family string) *eval.Model {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden.Named(t, family).Dir)); err != nil {
		t.Fatal(err)
	}
	vocab := map[string]int{"[MASK]": 1, "</s>": 2, "[CLS]": 3}
	for i := range 100 {
		vocab[fmt.Sprintf("w%d", i)] = 10 + i
	}
	post := map[string]any{
		"type": "TemplateProcessing", "special_tokens": map[string]any{},
		"single": []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"SpecialToken": map[string]any{"id": "</s>", "type_id": 0}}},
		"pair":   []any{},
	}
	post["special_tokens"].(map[string]any)["</s>"] = map[string]any{"id": "</s>", "ids": []int{2}, "tokens": []string{"</s>"}}
	text, err := json.Marshal(map[string]any{
		"pre_tokenizer": map[string]any{"type": "WhitespaceSplit"}, "post_processor": post,
		"model": map[string]any{"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	return mustLoad(t, dir)
}

func mustMeasure(t *testing.T, m *eval.Model, task *Task, o Options) []Row {
	t.Helper()
	rows, err := Measure(t.Context(), m, task, o)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// likelihood is log p(next | text) by one pass over the tokens of both.
func likelihood(t *testing.T, m *eval.Model, text, next string) float64 {
	t.Helper()
	tok, err := data.LoadTokenizer(m.Dir, m.Arch.Vocab)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(s string) []int32 {
		ids, err := tok.EncodePlain(s)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	given, whole := encode(text), encode(text+next)
	logits, sum := m.Host(m.Logits(ops.NewBatch(whole[:len(whole)-1]))), 0.0
	for i := len(given); i < len(whole); i++ {
		row, total := logits[(i-1)*m.Arch.Vocab:][:m.Arch.Vocab], 0.0
		for _, x := range row {
			total += math.Exp(float64(x))
		}
		sum += float64(row[whole[i]]) - math.Log(total)
	}
	return sum
}

// TestChoices compares acc, acc_norm and their errors with arithmetic on one pass for each choice, with and without examples.
func TestChoices(t *testing.T) {
	m := gopher(t)
	path := write(t, "mine.jsonl", strings.Join([]string{
		`{"context":"func (p *Parser) parse() error {\n\tif err :=","choices":["p.next()","nil","the river is wide and long","a.b"],"answer":0}`,
		`{"context":"for i := range","choices":["len(x)","x {","n"],"answer":2}`,
		`{"context":"package","choices":["é main","main"],"answer":1}`,
		`{"context":"return","choices":["nil, err","x"],"answer":0}`,
		`{"context":"import (\n\t","choices":["\"fmt\"","\"strings\""],"answer":1}`,
	}, "\n"))
	task := mustRead(t, path)
	for _, fewshot := range []int{0, 2} {
		heads, err := task.prompts(task.Items, fewshot, 0)
		if err != nil {
			t.Fatal(err)
		}
		var acc, norm []float64
		for i, it := range task.Items {
			var a answer
			for _, c := range it.Choices {
				text := heads[i] + it.Context
				trimmed := strings.TrimRight(text, "\t\n ")
				a.likelihoods = append(a.likelihoods, eval.Likelihood{LogP: likelihood(t, m, trimmed, text[len(trimmed):]+it.Delimiter+c)})
			}
			acc = append(acc, right(it, best(a, nil)))
			norm = append(norm, right(it, best(a, characters(it))))
		}
		rows := mustMeasure(t, m, task, Options{Fewshot: fewshot})
		for i, want := range [][]float64{acc, norm} {
			if got := rows[i]; !slices.Equal(got.Figure.Scores.Values, want) || got.N != 5 || got.Fewshot != fewshot || got.Task != "mine" {
				t.Errorf("%d examples: %+v, want %v", fewshot, got, want)
			}
		}
		mean, square := 0.0, 0.0
		for _, x := range acc {
			mean += x / 5
		}
		for _, x := range acc {
			square += (x - mean) * (x - mean)
		}
		if want := math.Sqrt(square / 4 / 5); math.Abs(rows[0].Value-mean)+math.Abs(rows[0].Stderr-want) > 1e-12 {
			t.Errorf("%d examples: %v ± %v, want %v ± %v", fewshot, rows[0].Value, rows[0].Stderr, mean, want)
		}
	}
}

func TestLastWord(t *testing.T) {
	m := gopher(t)
	task := mustRead(t, write(t, "lambada.jsonl", `{"text":"if err != nil"}`+"\n"+`{"text":"// Copyright 2015 The Go Authors. All rights reserved."}`+"\n"+`{"text":"func main() { river"}`))
	sum := 0.0
	for _, it := range task.Items {
		sum -= likelihood(t, m, it.Context, " "+it.Choices[0])
	}
	rows := mustMeasure(t, m, task, Options{})
	if got := rows[0]; got.Metric != "acc" || got.Value < 0.66 || got.Value > 0.67 {
		t.Errorf("got %+v, want 2 of 3", got)
	}
	if d, ok := rows[1].Figure.Scores.Minus(rows[1].Figure.Scores); !ok || d != (eval.Difference{}) {
		t.Errorf("the difference of a perplexity from itself is %+v, %v", d, ok)
	}
	if got, want := rows[1], math.Exp(sum/3); got.Metric != "perplexity" || math.Abs(got.Value/want-1) > 1e-5 || got.Stderr <= 0 {
		t.Errorf("got %+v, want %v", got, want)
	}
}

// TestSampleTasks: the sample solves its own tasks, which a model that guesses does not.
func TestSampleTasks(t *testing.T) {
	all, err := Load("sample")
	if err != nil {
		t.Fatal(err)
	}
	results, err := MeasureAll(t.Context(), gopher(t), all, Options{Limit: 60})
	if err != nil {
		t.Fatal(err)
	}
	for i, chance := range []float64{1. / 4, 1. / 3, 1. / 4} {
		if row := results.Tasks[i]; row.Value-4*row.Stderr < chance || row.N != 60 {
			t.Errorf("%+v, by chance %v", row, chance)
		}
	}
	if f := results.Figures()["brackets_acc"]; len(f.Scores.Values) != 60 || f.Better != "higher" {
		t.Errorf("figure %+v", f)
	}
	again, err := MeasureAll(t.Context(), gopher(t), all[:1], Options{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	shots, err := MeasureAll(t.Context(), gopher(t), all[:1], Options{Limit: 2, Fewshot: 1})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := results.Tasks[0].Figure.Items, again.Tasks[0].Figure.Items, shots.Tasks[0].Figure.Items; a == "" || a == b || b == c {
		t.Errorf("60 items, 2, and 2 with an example are identified as %s, %s and %s", a, b, c)
	}
	for _, task := range all {
		one := mustRead(t, task.Name)
		if !reflect.DeepEqual(one.Items, task.Items) || len(one.Items) < 100 {
			t.Errorf("%s has %d items", task.Name, len(one.Items))
		}
		for _, it := range one.Items {
			if it.Answer >= len(it.Choices) || it.Context == "" {
				t.Fatalf("%s: item %+v", task.Name, it)
			}
		}
	}
}

func TestPasskey(t *testing.T) {
	m := gopher(t)
	e, err := newEncoder(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	items, err := mustRead(t, "passkey").items(e, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != passkeyItems || items[0].Group != "512" {
		t.Fatalf("%d items of group %s, want %d of the model's context of 512", len(items), items[0].Group, passkeyItems)
	}
	places := map[int]bool{}
	for _, it := range items {
		key := it.Choices[it.Answer]
		if strings.Count(it.Context, key) != 2 {
			t.Errorf("key %s in %q", key, it.Context)
		}
		places[strings.Index(it.Context, key)] = true
		ids, err := e.text(it.Context + " " + key)
		if n := len(ids); err != nil || n > 512 || n < 400 {
			t.Errorf("%d tokens (%v)", n, err)
		}
	}
	if len(places) < 5 {
		t.Errorf("the key is at %d places", len(places))
	}
	for limit, want := range map[int][]int{512: {512}, 4096: {1024, 2048, 4096}, 5000: {1024, 2048, 4096, 5000}} {
		if got, err := passkeyLengths(0, limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: %v (%v), want %v", limit, got, err, want)
		}
	}
	if _, err := Measure(t.Context(), m, mustRead(t, "passkey:1024"), Options{}); err == nil || !strings.Contains(err.Error(), "a text of 1024 tokens is asked for, and the model reads 512") {
		t.Errorf("error %v", err)
	}
	if _, err := Measure(t.Context(), m, mustRead(t, "passkey:40"), Options{}); err == nil || !strings.Contains(err.Error(), "has no room for a pass key") {
		t.Errorf("error %v", err)
	}
	rows := mustMeasure(t, m, mustRead(t, "passkey:300"), Options{Limit: 3})
	if len(rows) != 2 || rows[0].Task != "passkey_300" || rows[1].Metric != "exact" || rows[1].N != 3 {
		t.Errorf("rows %+v", rows)
	}
}

// TestGenerate: what the model writes itself is right, and what it writes to a stop is compared.
func TestGenerate(t *testing.T) {
	m := gopher(t)
	task := mustRead(t, write(t, "texts.jsonl", `{"prompt":"// Copyright 2015 The Go Authors. All","references":["rights reserved."]}`+"\n"+
		`{"prompt":"if err !=","references":["nil {","x"]}`+"\n"+`{"prompt":"func main() {","references":["zzz qqq"]}`))
	for _, row := range mustMeasure(t, m, task, Options{}) {
		want := 2. / 3
		if row.Metric == "bleu" || row.Metric == "rouge2" {
			continue // short texts
		}
		if math.Abs(row.Value-want) > 1e-9 || row.N != 3 {
			t.Errorf("%+v, want %v", row, want)
		}
	}
}

// TestBLEU: all texts count together, and the error is about that of a mean.
func TestBLEU(t *testing.T) {
	var items []Item
	var answers []answer
	var all score.Counts
	var b score.BLEU
	for i := range 40 {
		text := strings.Repeat("the cat sat on a mat ", 1+i%3)
		it := Item{References: []string{text + strings.Repeat("and slept ", i%4)}}
		items, answers = append(items, it), append(answers, answer{text: text})
		all = all.Add(b.Count(text, it.References))
	}
	f := metrics["bleu"].figure(Generate, items, answers)
	if f.Value != b.Score(all) || f.N != 40 || !(f.Stderr > 0.5 && f.Stderr < 10) {
		t.Errorf("got %+v, want %v", f, b.Score(all))
	}
	if d, ok := f.Scores.Minus(f.Scores); !ok || d != (eval.Difference{}) {
		t.Errorf("the difference from itself is %+v, %v", d, ok)
	}
}

// TestOtherShapes: an encoder-decoder reads the context with its encoder, an encoder sees both sides.
func TestOtherShapes(t *testing.T) {
	task := &Task{Name: "x", Metrics: []string{"acc"}, Items: []Item{{Context: "w1 w2 w3", Delimiter: " ", Choices: []string{"w4 w5", "w6"}, Answer: 1}}}
	texts := &Task{Name: "y", Kind: Generate, Metrics: []string{"f1"}, maxTokens: 5, Items: []Item{{Context: "w9", Source: "w1", References: []string{"w5"}}}}
	m := tinyModel(t, "t5")
	e, err := newEncoder(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := e.query(task.Items[0], "w9 ")
	start := int32(m.Arch.StartToken)
	want := eval.Query{Source: []int32{19, 11, 12, 13, 2}, Continuations: []eval.Continuation{{IDs: []int32{start, 14, 15}, From: 1}, {IDs: []int32{start, 16}, From: 1}}}
	if err != nil || !reflect.DeepEqual(q, want) {
		t.Errorf("encoder-decoder: query %+v (%v), want %+v", q, err, want)
	}
	mustMeasure(t, m, task, Options{})
	if p, err := e.prompt(texts.Items[0], "", 5); err != nil || !reflect.DeepEqual(p, eval.Prompt{Source: []int32{11, 2}, IDs: []int32{start}}) {
		t.Errorf("encoder-decoder: prompt %+v (%v)", p, err)
	}
	mustMeasure(t, m, texts, Options{})
	e.limit = 3
	item := Item{Context: "w1 w2 w3 w4", Choices: []string{"w5"}}
	if q, err := e.query(item, ""); err != nil || !slices.Equal(q.Source, []int32{13, 14, 2}) {
		t.Errorf("encoder-decoder: a long context is %v (%v), want its end", q.Source, err)
	}
	if p, err := e.prompt(item, "", 5); err != nil || !slices.Equal(p.Source, []int32{11, 12, 2}) || e.truncated != 2 {
		t.Errorf("encoder-decoder: a long prompt is %v (%v), want its beginning", p.Source, err)
	}

	m = tinyModel(t, "bert")
	if e, err = newEncoder(m, nil); err != nil {
		t.Fatal(err)
	}
	q, err = e.query(task.Items[0], "")
	want = eval.Query{Continuations: []eval.Continuation{{IDs: []int32{11, 12, 13, 14, 15, 2}, From: 3, After: 1}, {IDs: []int32{11, 12, 13, 16, 2}, From: 3, After: 1}}}
	if err != nil || !reflect.DeepEqual(q, want) {
		t.Errorf("encoder: query %+v (%v), want %+v", q, err, want)
	}
	mustMeasure(t, m, task, Options{})
	if _, err := Measure(t.Context(), m, texts, Options{}); err == nil || !strings.Contains(err.Error(), "does not decode") {
		t.Errorf("encoder: error %v", err)
	}
}

// TestContextsOfAnEncoder: choices with contexts of their own are as likely as by themselves.
func TestContextsOfAnEncoder(t *testing.T) {
	m := tinyModel(t, "t5")
	pair := Item{Contexts: []string{"w1 w2", "w3"}, Delimiter: " ", Choices: []string{"w4 w5", "w4 w5"}, Answer: 1}
	task := &Task{Name: "x", Metrics: []string{"acc"}, Items: []Item{
		pair, {Context: "w1 w2", Delimiter: " ", Choices: pair.Choices[:1]}, {Context: "w3", Delimiter: " ", Choices: pair.Choices[:1]},
	}}
	var got []float64
	steps := int64(0)
	o := Options{Each: func(d Detail) { got = append(got, d.Likelihood...) }, Step: func(items int64) { steps += items }}
	mustMeasure(t, m, task, o)
	near := func(x, y float64) bool { return math.Abs(x-y) < 1e-4 }
	if len(got) != 4 || near(got[0], got[1]) || !near(got[0], got[2]) || !near(got[1], got[3]) || steps != 3 {
		t.Errorf("log-likelihoods %v, %d items; want those of the first item again, of 3 items", got, steps)
	}
}

// TestContinuation: how a text is split, and what is cut off if it is too long.
func TestContinuation(t *testing.T) {
	m := gopher(t)
	e, err := newEncoder(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Load(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	eos, _ := tok.EOS()
	for _, test := range []struct{ context, next, given, rest string }{
		{"a b", " c", "a b", " c"},
		{"a b \n", "c", "a b", " \nc"},
		{"f(", ")", "f(", ")"}, // () is one token
		{"", "c d", "<|endoftext|>", "c d"},
	} {
		c, err := e.continuation(test.context, test.next)
		if err != nil {
			t.Fatal(err)
		}
		given, err := tok.Decode(c.IDs[:c.From])
		rest, err2 := tok.Decode(c.IDs[c.From:])
		if err != nil || err2 != nil || given != test.given || rest != test.rest {
			t.Errorf("%q, %q: %q, %q, want %q, %q", test.context, test.next, given, rest, test.given, test.rest)
		}
	}
	if c, _ := e.continuation("", "c"); c.IDs[0] != eos || e.apart != 1 {
		t.Errorf("got %+v, %d encoded apart", c, e.apart)
	}
	c, err := e.continuation(strings.Repeat("a ", 1000), "b")
	if err != nil || len(c.IDs) != 513 || c.From != 512 || e.truncated != 1 {
		t.Errorf("%d tokens from %d on, %d truncated (%v)", len(c.IDs), c.From, e.truncated, err)
	}
	if _, err := e.continuation("a", strings.Repeat(" b", 600)); err == nil || !strings.Contains(err.Error(), "it has 600 tokens, and the model reads 512") {
		t.Errorf("error %v", err)
	}
}

// TestFewshot: an item is not its own example, and examples are the same for all others.
func TestFewshot(t *testing.T) {
	task := &Task{Name: "x"}
	for i := range 6 {
		task.Items = append(task.Items, Item{Context: fmt.Sprint("q", i), Delimiter: " ", Choices: []string{"a", "b"}, Answer: i % 2, Header: "H\n", Section: fmt.Sprint(i / 3)})
	}
	heads, err := task.prompts(task.Items, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	for i, head := range heads {
		if strings.Contains(head, task.Items[i].Context) || strings.Count(head, "\n\n") != 2 || !strings.HasPrefix(head, "H\nq") {
			t.Errorf("prompt %d is %q", i, head)
		}
		if section := fmt.Sprint(1 - i/3); strings.Contains(head, "q"+section) && section == "0" && i >= 3 {
			t.Errorf("prompt %d has an example of another section: %q", i, head)
		}
	}
	if _, err := task.prompts(task.Items, 3, 5); err == nil || err.Error() != "3 examples wanted, but there are only 2 in section 0" {
		t.Errorf("error %v", err)
	}
	task.Examples = []Item{{Context: "e", Delimiter: " ", Choices: []string{"a", "b"}, Answer: 1, Section: "0"}}
	heads, err = task.prompts(task.Items[:1], 1, 5)
	if err != nil || heads[0] != "H\ne b\n\n" {
		t.Errorf("prompts %q (%v)", heads, err)
	}
	task.Examples = task.Items
	heads, err = task.prompts(task.Items[:2], 1, 5)
	if err != nil || heads[0] != "H\nq1 b\n\n" || heads[1] != "H\nq0 a\n\n" {
		t.Errorf("prompts %q with examples that are the items themselves (%v)", heads, err)
	}
	mmlu := mustRead(t, write(t, "x_test.csv", "q,a,b,c,d,A\n"))
	if err := AddExamples([]*Task{mmlu}, write(t, "x_dev.csv", "e,a,b,c,d,B\n")); err != nil || len(mmlu.Examples) != 1 {
		t.Errorf("examples %v (%v)", mmlu.Examples, err)
	}
	if err := AddExamples([]*Task{task}, write(t, "x_dev.csv", "e,a,b,c,d,B\n")); err == nil || !strings.Contains(err.Error(), "x_dev.csv has the format mmlu, which none of the tasks has") {
		t.Errorf("error %v", err)
	}
}
