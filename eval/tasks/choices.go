package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The functions of this file read one record of a benchmark whose items have choices. The texts are those of lm-evaluation-harness's
// tasks of these names.

// hellaSwag reads Zellers et al. 2019, arXiv 1905.07830.
func hellaSwag(r record) (Item, error) {
	parts, err := r.texts("activity_label", "ctx_a", "ctx_b")
	if err != nil {
		return Item{}, err
	}
	var endings []string
	if err := r.get("endings", &endings); err != nil {
		return Item{}, err
	}
	for i := range endings {
		endings[i] = withoutBrackets(endings[i])
	}
	answer, err := r.index("label", 0, len(endings))
	context := withoutBrackets(parts[0] + ": " + parts[1] + " " + capitalized(parts[2]))
	return checked(Item{Context: context, Delimiter: " ", Choices: endings, Answer: answer}, err)
}

var bracketed = regexp.MustCompile(`\[.*?\]`)

// withoutBrackets removes what WikiHow's pages left in HellaSwag.
func withoutBrackets(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), " [title]", ". ")
	return strings.ReplaceAll(bracketed.ReplaceAllString(s, ""), "  ", " ")
}

// capitalized is Python's str.capitalize.
func capitalized(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToTitle(s[:n]) + strings.ToLower(s[n:])
}

// winoGrande reads Sakaguchi et al. 2019, arXiv 1907.10641. What follows the blank is scored after each option (partial scoring; Trinh and
// Le 2018, arXiv 1806.02847).
func winoGrande(r record) (Item, error) {
	parts, err := r.texts("sentence", "option1", "option2")
	if err != nil {
		return Item{}, err
	}
	before, after, ok := strings.Cut(parts[0], "_")
	if !ok {
		return Item{}, errors.New(`"sentence" has no _`)
	}
	after = strings.TrimSpace(after)
	answer, err := r.index("answer", 1, 2)
	return checked(Item{Contexts: []string{before + parts[1], before + parts[2]}, Delimiter: " ", Choices: []string{after, after}, Answer: answer}, err)
}

// piqa reads Bisk et al. 2019, arXiv 1911.11641.
func piqa(r record) (Item, error) {
	parts, err := r.texts("goal", "sol1", "sol2")
	if err != nil {
		return Item{}, err
	}
	answer, err := r.index("label", 0, 2)
	return checked(Item{Context: question(parts[0]), Delimiter: " ", Choices: parts[1:], Answer: answer}, err)
}

func question(text string) string { return "Question: " + text + "\nAnswer:" }

// arc reads Clark et al. 2018, arXiv 1803.05457.
func arc(r record) (Item, error) {
	stem, it, err := stemAndChoices(r)
	it.Context = question(stem)
	return checked(it, err)
}

// openBookQA reads Mihaylov et al. 2018, arXiv 1809.02789.
func openBookQA(r record) (Item, error) {
	stem, it, err := stemAndChoices(r)
	it.Context = stem
	return checked(it, err)
}

var openBookID = regexp.MustCompile(`^"\d+-\d+"$`)

// looksLikeOpenBookQA tells two data sets apart that are published in the same form.
func looksLikeOpenBookQA(path string, r record) bool {
	return strings.Contains(strings.ToLower(filepath.Base(path)), "openbook") || openBookID.Match(r.keys["id"])
}

// stemAndChoices reads the form of the Allen Institute's question sets, {"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"},
// and that of the Hugging Face hub, {"question" or "question_stem", "choices": {"text": [], "label": []}, "answerKey"}.
func stemAndChoices(r record) (stem string, it Item, err error) {
	type choice struct{ Text, Label string }
	var choices []choice
	var nested struct {
		Stem    string
		Choices []choice
	}
	var lists struct{ Text, Label []string }
	switch {
	case json.Unmarshal(r.keys["question"], &nested) == nil && nested.Stem != "":
		stem, choices = nested.Stem, nested.Choices
	default:
		key := "question"
		if r.keys["question_stem"] != nil {
			key = "question_stem"
		}
		if stem, err = r.text(key); err != nil {
			return "", it, err
		}
		if err := r.get("choices", &lists); err != nil {
			return "", it, err
		}
		for i := range min(len(lists.Text), len(lists.Label)) {
			choices = append(choices, choice{lists.Text[i], lists.Label[i]})
		}
	}
	answer, err := r.text("answerKey")
	if err != nil {
		return "", it, err
	}
	it = Item{Delimiter: " ", Answer: slices.IndexFunc(choices, func(c choice) bool { return c.Label == strings.TrimSpace(answer) })}
	for _, c := range choices {
		it.Choices = append(it.Choices, c.Text)
	}
	if it.Answer < 0 {
		err = fmt.Errorf(`"answerKey" is %q, which is the label of no choice`, answer)
	}
	return stem, it, err
}

// boolQ reads Clark et al. 2019, arXiv 1905.10044, also in SuperGLUE's form.
func boolQ(r record) (Item, error) {
	parts, err := r.texts("passage", "question")
	if err != nil {
		return Item{}, err
	}
	key := "label"
	if r.keys["answer"] != nil {
		key = "answer"
	}
	answer, err := r.index(key, 0, 2)
	return checked(Item{Context: parts[0] + "\nQuestion: " + parts[1] + "?\nAnswer:", Delimiter: " ", Choices: []string{"no", "yes"}, Answer: answer}, err)
}

// mmlu reads Hendrycks et al. 2020, arXiv 2009.03300.
func mmlu(r record) (Item, error) {
	text, err := r.text("question")
	if err != nil {
		return Item{}, err
	}
	var choices []string
	if err := r.get("choices", &choices); err != nil {
		return Item{}, err
	}
	subject := ""
	if r.keys["subject"] != nil {
		if subject, err = r.text("subject"); err != nil {
			return Item{}, err
		}
	}
	text = strings.TrimSpace(text)
	it := Item{Delimiter: " ", Section: subject}
	for i, c := range choices {
		letter := string(rune('A' + i))
		text += "\n" + letter + ". " + c
		it.Choices = append(it.Choices, letter)
	}
	it.Context = text + "\nAnswer:"
	if subject != "" {
		it.Header = "The following are multiple choice questions (with answers) about " + strings.ReplaceAll(subject, "_", " ") + ".\n\n"
	}
	it.Answer, err = r.index("answer", 0, len(choices))
	return checked(it, err)
}

// lambada reads Paperno et al. 2016, arXiv 1606.06031.
func lambada(r record) (Item, error) {
	text, err := r.text("text")
	at := strings.LastIndex(text, " ")
	switch {
	case err != nil:
		return Item{}, err
	case at < 0:
		return Item{}, errors.New(`"text" is one word`)
	case at == len(text)-1:
		return Item{}, errors.New(`"text" has a space after its last word`)
	}
	return Item{Context: text[:at], Delimiter: " ", Choices: []string{text[at+1:]}}, nil
}

// ownChoices reads {"context", "choices", "answer"}. A space joins a context and a choice, unless one of them has white space there, or
// "delimiter" says otherwise.
func ownChoices(r record) (Item, error) {
	context, err := r.text("context")
	if err != nil {
		return Item{}, err
	}
	it := Item{Context: context}
	if err := r.get("choices", &it.Choices); err != nil {
		return it, err
	}
	if it.Answer, err = r.index("answer", 0, len(it.Choices)); err != nil {
		return it, err
	}
	it.Delimiter, err = r.delimiter(context, it.Choices)
	return checked(it, err)
}

// delimiter returns what joins a context and what follows it.
func (r record) delimiter(context string, next []string) (string, error) {
	if r.keys["delimiter"] != nil {
		return r.text("delimiter")
	}
	spaced := func(s string) bool { return strings.TrimLeftFunc(s, unicode.IsSpace) != s }
	if context == "" || strings.TrimRightFunc(context, unicode.IsSpace) != context || slices.ContainsFunc(next, spaced) {
		return "", nil
	}
	return " ", nil
}
