package score

import (
	"regexp"
	"strings"
	"unicode"
)

// Answers compares short answers to questions, in one of the published ways.
type Answers struct {
	normalize func(answer string) string
	noWords   float64 // F1 of two answers without words
}

var (
	// SQuAD ignores case, punctuation, articles and repeated spaces (the evaluation script of SQuAD 2.0, which
	// lm-evaluation-harness uses for SQuAD and CoQA).
	SQuAD = Answers{normalizeSQuAD, 1}
	// TriviaQA is the evaluation script of TriviaQA: as SQuAD, but punctuation separates words.
	TriviaQA = Answers{normalizeTriviaQA, 0}
	// Harness ignores case and punctuation only, as lm-evaluation-harness does for TriviaQA and Natural Questions
	// (exact_match with ignore_case and ignore_punctuation).
	Harness = Answers{normalizeHarness, 1}
	// Verbatim ignores nothing (exact_match without options).
	Verbatim = Answers{func(answer string) string { return answer }, 1}
)

// ExactMatch returns 1 if the prediction equals one of the references, otherwise 0.
func (a Answers) ExactMatch(prediction string, references []string) float64 {
	p := a.normalize(prediction)
	for _, r := range references {
		if a.normalize(r) == p {
			return 1
		}
	}
	return 0
}

// F1 returns the harmonic mean of the shares of words that prediction and reference have in common, the largest over the
// references.
func (a Answers) F1(prediction string, references []string) (best float64) {
	p := fields(a.normalize(prediction))
	for _, r := range references {
		best = max(best, a.f1(p, fields(a.normalize(r))))
	}
	return best
}

func (a Answers) f1(prediction, reference []string) float64 {
	if len(prediction) == 0 && len(reference) == 0 {
		return a.noWords
	}
	return overlap(shared(prediction, reference), len(prediction), len(reference)).F
}

func normalizeSQuAD(answer string) string {
	return strings.Join(fields(withoutArticles(withoutPunctuation(lower(answer)))), " ")
}

func normalizeTriviaQA(answer string) string {
	words := strings.Map(func(r rune) rune {
		if isPunctuation(r) || strings.ContainsRune("‘’´", r) {
			return ' '
		}
		return r
	}, lower(answer))
	return strings.Join(fields(withoutArticles(words)), " ")
}

func normalizeHarness(answer string) string { return withoutPunctuation(lower(answer)) }

// isPunctuation reports whether Python's string.punctuation contains r: ASCII punctuation and symbols.
func isPunctuation(r rune) bool {
	return r < unicode.MaxASCII && (unicode.IsPunct(r) || unicode.IsSymbol(r))
}

func withoutPunctuation(text string) string {
	return strings.Map(func(r rune) rune {
		if isPunctuation(r) {
			return -1
		}
		return r
	}, text)
}

// wordRuns are runs of what \w matches in Python; Go's own \b knows only ASCII.
var wordRuns = regexp.MustCompile(`[\pL\pN_]+`)

// withoutArticles replaces the words a, an and the by a space.
func withoutArticles(text string) string {
	return wordRuns.ReplaceAllStringFunc(text, func(word string) string {
		switch word {
		case "a", "an", "the":
			return " "
		}
		return word
	})
}
