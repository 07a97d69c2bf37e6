package tasks

import (
	"math"
	"math/rand/v2"
	"unicode/utf8"

	"gqa/eval"
	"gqa/eval/score"
)

// metric makes a figure of answers.
type metric struct {
	unit, better string
	item         func(k Kind, it Item, a answer) float64          // the figure is the mean over items
	whole        func(items []Item, answers []answer) eval.Figure // in place of item
}

// metrics are the known ones. What follows a colon tells metrics of one name apart.
var metrics = map[string]metric{
	"acc":         share(accuracy),
	"acc_norm":    share(func(_ Kind, it Item, a answer) float64 { return right(it, best(a, characters(it))) }),
	"exact":       share(func(_ Kind, it Item, a answer) float64 { return number(a.likelihoods[it.Answer].Greedy) }),
	"perplexity":  {unit: "per word", better: "lower", whole: perplexity},
	"exact_match": share(func(_ Kind, it Item, a answer) float64 { return score.Harness.ExactMatch(a.text, it.References) }),
	"f1":          share(func(_ Kind, it Item, a answer) float64 { return score.SQuAD.F1(a.text, it.References) }),
	"f1:triviaqa": share(func(_ Kind, it Item, a answer) float64 { return score.TriviaQA.F1(a.text, it.References) }),
	"rouge1":      share(func(_ Kind, it Item, a answer) float64 { return rouge.N(1, a.text, it.References).F }),
	"rouge2":      share(func(_ Kind, it Item, a answer) float64 { return rouge.N(2, a.text, it.References).F }),
	"rougeL":      share(func(_ Kind, it Item, a answer) float64 { return rouge.L(a.text, it.References).F }),
	"bleu":        {unit: "of 100", better: "higher", whole: bleu},
}

var rouge = score.ROUGE{Stem: true}

func share(item func(Kind, Item, answer) float64) metric {
	return metric{unit: "share of items", better: "higher", item: item}
}

// figure returns the figure of some items.
func (m metric) figure(k Kind, items []Item, answers []answer) eval.Figure {
	if m.whole != nil {
		f := m.whole(items, answers)
		f.Unit, f.Better = m.unit, m.better
		return f
	}
	values := make([]float64, len(items))
	for i := range items {
		values[i] = m.item(k, items[i], answers[i])
	}
	return eval.NewFigure(values, m.unit, m.better)
}

// accuracy is 1 if the most likely choice is right, or if the only choice is what the model would write.
func accuracy(k Kind, it Item, a answer) float64 {
	if k == LastWord {
		return number(a.likelihoods[it.Answer].Greedy)
	}
	return right(it, best(a, nil))
}

func number(right bool) float64 {
	if right {
		return 1
	}
	return 0
}

func right(it Item, choice int) float64 { return number(choice == it.Answer) }

// best returns the index of the most likely choice, the first of equals. Log-likelihoods are divided by lengths, unless these are nil.
func best(a answer, lengths []float64) (index int) {
	most := math.Inf(-1)
	for i, l := range a.likelihoods {
		p := l.LogP
		if lengths != nil {
			p /= lengths[i]
		}
		if p > most {
			index, most = i, p
		}
	}
	return index
}

// characters returns the lengths of the choices, in characters as in lm-evaluation-harness's acc_norm.
func characters(it Item) []float64 {
	all := make([]float64, len(it.Choices))
	for i, c := range it.Choices {
		all[i] = float64(utf8.RuneCountInString(c))
	}
	return all
}

// perplexity returns the perplexity of the words, with the first-order error of its exponent's.
func perplexity(_ []Item, answers []answer) eval.Figure {
	losses := make([]float64, len(answers))
	for i, a := range answers {
		losses[i] = -a.likelihoods[0].LogP
	}
	f := eval.NewFigure(losses, "", "")
	f.Scores.Values = nil
	f.Value = math.Min(math.Exp(f.Value), math.MaxFloat64)
	f.Stderr = math.Min(f.Value*f.Stderr, math.MaxFloat64)
	f.Scores.Of = func(index []int) float64 {
		sum := 0.0
		for _, i := range index {
			sum += losses[i]
		}
		return math.Min(math.Exp(sum/float64(len(index))), math.MaxFloat64)
	}
	return f
}

// resamples is the number of samples by which the error of BLEU is estimated.
const resamples = 1000

// bleu returns the BLEU of all texts, and the standard deviation of the BLEU of as many texts drawn from them (Koehn 2004, Statistical
// significance tests for machine translation evaluation).
func bleu(items []Item, answers []answer) eval.Figure {
	var b score.BLEU
	counts, index := make([]score.Counts, len(items)), make([]int, len(items))
	for i, it := range items {
		counts[i], index[i] = b.Count(answers[i].text, it.References), i
	}
	f := eval.NewFigure(make([]float64, len(items)), "", "")
	f.Scores.Values = nil
	f.Scores.Of = func(index []int) float64 {
		var all score.Counts
		for _, i := range index {
			all = all.Add(counts[i])
		}
		return b.Score(all)
	}
	if f.Value = f.Scores.Of(index); len(items) < 2 {
		return f
	}
	r, values := rand.New(rand.NewPCG(1, 2)), make([]float64, resamples)
	for i := range values {
		for j := range index {
			index[j] = r.IntN(len(items))
		}
		values[i] = f.Scores.Of(index)
	}
	f.Stderr = eval.NewFigure(values, "", "").Stderr * math.Sqrt(resamples)
	return f
}

// shuffle puts items into a random order that depends on the seed alone.
func shuffle(items []Item, seed uint64) {
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
}
