package score

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

// testCase is a line of testdata/cases.jsonl: texts, and what the reference implementations return for them.
type testCase struct {
	Prediction string
	References []string
	Exact, F1  map[string]float64
	ROUGE      map[string]map[string][3]float64 // by "plain" and "stem", then by kind: precision, recall, F
	Counts     map[string][10]int               // by tokenizer
	BLEU       []float64                        // for all of smoothings, without and with effective order
	Sentence   float64                          `json:"sentence_bleu"`
}

func TestCases(t *testing.T) {
	cases := lines[testCase](t, "testdata/cases.jsonl")
	if len(cases) < 200 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		for name, got := range allScores(c) {
			if want := expected(c)[name]; math.IsNaN(got) || math.Abs(got-want) > 1e-6 {
				t.Errorf("%s of %q with %q is %v, want %v", name, c.Prediction, c.References, got, want)
			}
		}
		for name, b := range splits {
			if got, want := b.Count(c.Prediction, c.References), countsOf(c.Counts[name]); got != want {
				t.Errorf("counts %s of %q with %q are %v, want %v", name, c.Prediction, c.References, got, want)
			}
		}
	}
}

var answers = map[string]Answers{"squad": SQuAD, "triviaqa": TriviaQA, "harness": Harness, "verbatim": Verbatim}

func allScores(c testCase) map[string]float64 {
	got := map[string]float64{}
	for name, a := range answers {
		got["exact "+name] = a.ExactMatch(c.Prediction, c.References)
		if _, ok := c.F1[name]; ok {
			got["f1 "+name] = a.F1(c.Prediction, c.References)
		}
	}
	for name, r := range map[string]ROUGE{"plain": {}, "stem": {Stem: true}} {
		for kind, o := range map[string]Overlap{
			"rouge1": r.N(1, c.Prediction, c.References), "rouge2": r.N(2, c.Prediction, c.References), "rouge3": r.N(3, c.Prediction, c.References),
			"rougeL": r.L(c.Prediction, c.References), "rougeLsum": r.LSum(c.Prediction, c.References),
		} {
			for i, x := range [3]float64{o.Precision, o.Recall, o.F} {
				got[overlapName(name, kind, i)] = x
			}
		}
	}
	counts := BLEU{}.Count(c.Prediction, c.References)
	for i, b := range smoothed(BLEU{}) {
		got[bleuName(i)] = b.Score(counts)
	}
	got["sentence"] = BLEU{EffectiveOrder: true}.Score(counts)
	return got
}

func expected(c testCase) map[string]float64 {
	want := map[string]float64{"sentence": c.Sentence}
	for name, x := range c.Exact {
		want["exact "+name] = x
	}
	for name, x := range c.F1 {
		want["f1 "+name] = x
	}
	for name, kinds := range c.ROUGE {
		for kind, scores := range kinds {
			for i, x := range scores {
				want[overlapName(name, kind, i)] = x
			}
		}
	}
	for i, x := range c.BLEU {
		want[bleuName(i)] = x
	}
	return want
}

func overlapName(name, kind string, i int) string {
	return strings.Join([]string{kind, name, [3]string{"precision", "recall", "F"}[i]}, " ")
}

func bleuName(i int) string { return "BLEU " + string(rune('a'+i)) }

// splits are the ways to split text, by their names in Counts.
var splits = func() map[string]BLEU {
	all := map[string]BLEU{}
	for name, t := range tokenizers {
		all[name] = BLEU{Tokenizer: t}
		all[name+" lower"] = BLEU{Tokenizer: t, Lowercase: true}
	}
	return all
}()

var (
	tokenizers = map[string]Tokenizer{"13a": Tokenizer13a, "intl": TokenizerIntl, "none": TokenizerNone, "char": TokenizerChar}
	smoothings = map[string]Smoothing{"exp": SmoothExp, "floor": SmoothFloor, "add-k": SmoothAddK, "none": SmoothNone}
)

// smoothed returns b with every smoothing of the cases, each without and with effective order.
func smoothed(b BLEU) (all []BLEU) {
	for _, s := range []struct {
		kind  Smoothing
		value float64
	}{{SmoothExp, 0}, {SmoothFloor, 0}, {SmoothFloor, 0.5}, {SmoothAddK, 0}, {SmoothAddK, 0.3}, {SmoothNone, 0}} {
		for _, effective := range []bool{false, true} {
			b.Smoothing, b.SmoothValue, b.EffectiveOrder = s.kind, s.value, effective
			all = append(all, b)
		}
	}
	return all
}

// countsOf reads sacrebleu's order: lengths, then correct and all sequences.
func countsOf(n [10]int) Counts {
	return Counts{Length: n[0], ReferenceLength: n[1], Correct: [4]int(n[2:6]), Total: [4]int(n[6:])}
}

func TestCorpora(t *testing.T) {
	all := lines[testCase](t, "testdata/cases.jsonl")
	parts := map[string][]testCase{"all": all, "fixed": all[:32], "two": all[40:42]}
	for i := 0; i < len(all); i += 7 {
		parts["every 7th"] = append(parts["every 7th"], all[i])
	}
	type corpus struct {
		Corpus, Tokenize, Smooth string
		Lowercase, Effective     bool
		Value, Score             float64
	}
	sums := map[string]map[BLEU]Counts{}
	for part, items := range parts {
		sums[part] = map[BLEU]Counts{}
		for _, b := range splits {
			for _, item := range items {
				sums[part][b] = sums[part][b].Add(b.Count(item.Prediction, item.References))
			}
		}
	}
	for _, c := range lines[corpus](t, "testdata/corpora.jsonl") {
		b := BLEU{Tokenizer: tokenizers[c.Tokenize], Lowercase: c.Lowercase}
		sum := sums[c.Corpus][b]
		b.Smoothing, b.SmoothValue, b.EffectiveOrder = smoothings[c.Smooth], c.Value, c.Effective
		if got := b.Score(sum); math.Abs(got-c.Score) > 1e-6 {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestStems(t *testing.T) {
	data, err := os.ReadFile("testdata/stems.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		word, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if got := stem(word); got != want {
			t.Errorf("stem of %s is %s, want %s", word, got, want)
		}
	}
}

func lines[T any](t *testing.T, file string) (all []T) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var x T
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, x)
	}
	return all
}
