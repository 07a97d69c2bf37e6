package score

import (
	"math"
	"regexp"
	"strings"
)

// maxOrder is the length of the longest sequences of words that BLEU counts.
const maxOrder = 4

// Tokenizer is a way to split text into the words that BLEU counts.
type Tokenizer int

// The tokenizers have the names that sacrebleu gives them.
const (
	Tokenizer13a  Tokenizer = iota // of mteval-v13a, the default: splits off ASCII punctuation
	TokenizerIntl                  // of mteval-v14: splits off all punctuation and symbols
	TokenizerNone                  // splits at spaces alone
	TokenizerChar                  // every character is a word
)

// Smoothing is what BLEU puts in the place of a precision of 0 (Chen and Cherry 2014).
type Smoothing int

// The kinds of smoothing have the names that sacrebleu gives them.
const (
	SmoothExp   Smoothing = iota // the default: half of the smallest precision, then a quarter, …
	SmoothFloor                  // SmoothValue matches, 0.1 by default
	SmoothAddK                   // adds SmoothValue, 1 by default, to matches and totals of all orders above 1
	SmoothNone                   // leaves it: the score is 0
)

// BLEU computes the score of Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002), as
// sacrebleu does. The zero value is sacrebleu's default for a corpus.
type BLEU struct {
	Tokenizer      Tokenizer
	Lowercase      bool
	Smoothing      Smoothing
	SmoothValue    float64 // 0 means the default
	EffectiveOrder bool    // leave out sequences longer than the predictions: for the score of a single sentence
}

// Counts is what BLEU needs to know of a prediction, or of many: the counts of a corpus are the sum of those of its items.
type Counts struct {
	Correct         [maxOrder]int `json:"correct"` // sequences of 1 to 4 words that a reference has, too
	Total           [maxOrder]int `json:"total"`
	Length          int           `json:"length"`           // words of the prediction
	ReferenceLength int           `json:"reference_length"` // words of the reference that is closest in length
}

// Add returns the sum of c and d.
func (c Counts) Add(d Counts) Counts {
	for n := range maxOrder {
		c.Correct[n] += d.Correct[n]
		c.Total[n] += d.Total[n]
	}
	c.Length += d.Length
	c.ReferenceLength += d.ReferenceLength
	return c
}

// Count compares a prediction with its references. Without references nothing is correct.
func (b BLEU) Count(prediction string, references []string) (c Counts) {
	words := b.words(prediction)
	most := map[string]int{}
	c.Length = len(words)
	for i, r := range references {
		reference := b.words(r)
		for gram, n := range allGrams(reference) {
			most[gram] = max(most[gram], n)
		}
		if i == 0 || closer(c.Length, len(reference), c.ReferenceLength) {
			c.ReferenceLength = len(reference)
		}
	}
	for gram, n := range allGrams(words) {
		order := strings.Count(gram, " ")
		c.Total[order] += n
		c.Correct[order] += min(n, most[gram])
	}
	return c
}

// closer reports whether a is closer to length than b is, or as close and smaller.
func closer(length, a, b int) bool {
	x, y := max(length-a, a-length), max(length-b, b-length)
	return x < y || x == y && a < b
}

// allGrams counts the sequences of 1 to maxOrder words.
func allGrams(words []string) map[string]int {
	n := map[string]int{}
	for order := 1; order <= maxOrder; order++ {
		for _, gram := range grams(words, order) {
			n[gram]++
		}
	}
	return n
}

// Score returns BLEU in percent, from 0 to 100.
func (b BLEU) Score(c Counts) float64 {
	if c.Correct == [maxOrder]int{} {
		return 0
	}
	sum, order, halved := 0.0, maxOrder, 1.0
	for n := range maxOrder {
		correct, total := b.smoothed(n, c)
		if total == 0 {
			if !b.EffectiveOrder {
				return 0
			}
			order = n
			break
		}
		if correct == 0 && b.Smoothing == SmoothExp {
			halved /= 2
			correct = halved
		}
		sum += math.Log(correct / total)
	}
	return 100 * brevityPenalty(c) * math.Exp(sum/float64(order))
}

// smoothed returns the matches and the total of order n+1. Exponential smoothing is up to the caller.
func (b BLEU) smoothed(n int, c Counts) (correct, total float64) {
	correct, total = float64(c.Correct[n]), float64(c.Total[n])
	switch {
	case b.Smoothing == SmoothAddK && n > 0:
		k := b.smoothValue(1)
		return correct + k, total + k
	case b.Smoothing == SmoothFloor && correct == 0:
		return b.smoothValue(0.1), total
	}
	return correct, total
}

func (b BLEU) smoothValue(byDefault float64) float64 {
	if b.SmoothValue == 0 {
		return byDefault
	}
	return b.SmoothValue
}

func brevityPenalty(c Counts) float64 {
	if c.Length >= c.ReferenceLength {
		return 1
	}
	return math.Exp(1 - float64(c.ReferenceLength)/float64(c.Length))
}

func (b BLEU) words(text string) []string {
	if b.Lowercase {
		text = lower(text)
	}
	text = strings.TrimRightFunc(text, isSpace)
	switch b.Tokenizer {
	case Tokenizer13a:
		text = split13a(text)
	case TokenizerIntl:
		text = splitIntl(text)
	case TokenizerChar:
		text = strings.Join(strings.Split(text, ""), " ")
	}
	return fields(text)
}

// A substitution replaces what an expression matches, from left to right.
type substitution struct {
	pattern *regexp.Regexp
	by      string
}

func substitute(text string, all []substitution) string {
	for _, s := range all {
		text = s.pattern.ReplaceAllString(text, s.by)
	}
	return text
}

var (
	// Of ASCII punctuation, full stop, comma, dash and apostrophe have rules of their own or none.
	punctuation13a = []substitution{
		{regexp.MustCompile("([{-~[-` -&(-+:-@/])"), " $1 "},
		{regexp.MustCompile(`([^0-9])([.,])`), "$1 $2 "}, // not after a digit
		{regexp.MustCompile(`([.,])([^0-9])`), " $1 $2"}, // not before a digit
		{regexp.MustCompile(`([0-9])(-)`), "$1 $2 "},
	}
	punctuationIntl = []substitution{
		{regexp.MustCompile(`(\PN)(\pP)`), "$1 $2 "},
		{regexp.MustCompile(`(\pP)(\PN)`), " $1 $2"},
		{regexp.MustCompile(`(\pS)`), " $1 "},
	}
)

func split13a(text string) string {
	for _, r := range [...][2]string{{"<skipped>", ""}, {"-\n", ""}, {"\n", " "}, {"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return substitute(" "+text+" ", punctuation13a)
}

func splitIntl(text string) string { return substitute(text, punctuationIntl) }
