package score

import (
	"math"
	"testing"
)

// Whatever the texts, every score is in its range, and a text that equals its reference has the highest: unless no words
// are left of it, or too few for the order of n-grams.
func FuzzScores(f *testing.F) {
	f.Add("the quick brown fox", "a quick, brown fox.")
	f.Add("", " ")
	f.Add("ΟΔΥΣΣΕΥΣ\n1,000.5-3", "İ 日本 👩‍👩‍👧 &amp;lt;")
	f.Fuzz(func(t *testing.T, prediction, reference string) {
		for name, x := range fractions(prediction, reference) {
			if !(0 <= x && x <= 1) {
				t.Errorf("%s is %v", name, x)
			}
		}
		for name, x := range fractions(reference, reference) {
			if empty := fractions(reference, "")[name]; x != 1 && !(x == 0 && empty == 0) {
				t.Errorf("%s of a text with itself is %v", name, x)
			}
		}
		for name, b := range splits {
			checkBLEU(t, name, b, prediction, reference)
		}
	})
}

// fractions returns the scores from 0 to 1.
func fractions(prediction, reference string) map[string]float64 {
	references := []string{reference}
	all := map[string]float64{}
	for name, a := range answers {
		all["exact "+name] = a.ExactMatch(prediction, references)
		all["f1 "+name] = a.F1(prediction, references)
	}
	for name, r := range map[string]ROUGE{"plain": {}, "stem": {Stem: true}} {
		all["rouge1 "+name] = r.N(1, prediction, references).F
		all["rouge2 "+name] = r.N(2, prediction, references).F
		all["rougeL "+name] = r.L(prediction, references).F
		all["rougeLsum "+name] = r.LSum(prediction, references).F
	}
	return all
}

func checkBLEU(t *testing.T, name string, b BLEU, prediction, reference string) {
	t.Helper()
	counts := b.Count(prediction, []string{reference})
	for _, s := range smoothed(b) {
		if x := s.Score(counts); !(0 <= x && x <= 100+1e-9) {
			t.Errorf("BLEU %s %+v is %v", name, s, x)
		}
	}
	b.EffectiveOrder = true
	same := b.Count(reference, []string{reference})
	want := 100.0
	if same.Length == 0 {
		want = 0
	}
	if x := b.Score(same); math.Abs(x-want) > 1e-9 {
		t.Errorf("BLEU %s of a text with itself is %v", name, x)
	}
}
