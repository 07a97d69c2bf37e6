package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The functions of this file read one record of a benchmark whose items are answered by a text.

// triviaQA reads Joshi et al. 2017, arXiv 1705.03551, in its own form and in that of the Hugging Face hub. The prompt is that of
// lm-evaluation-harness. An encoder-decoder reads the question as T5 was trained to (Roberts et al. 2020, arXiv 2002.08910).
func triviaQA(r record) (Item, error) {
	type answer struct {
		Value   string
		Aliases []string
	}
	var a answer
	text, key := "", "question"
	if r.keys[key] == nil {
		key = "Question"
	}
	if err := r.get(key, &text); err != nil {
		return Item{}, err
	}
	key = strings.Replace(strings.Replace(key, "question", "answer", 1), "Question", "Answer", 1)
	if err := r.get(key, &a); err != nil {
		return Item{}, err
	}
	if len(a.Aliases) == 0 {
		a.Aliases = []string{a.Value}
	}
	if a.Aliases[0] == "" {
		return Item{}, fmt.Errorf("%q has no aliases and no value", key)
	}
	return checked(Item{Context: "Question: " + text + "?\nAnswer:", Delimiter: " ", References: a.Aliases, Source: "trivia question: " + text}, nil)
}

// summary reads a text and its summary: CNN/DailyMail (See et al. 2017, arXiv 1704.04368) and MultiNews (Fabbri et al. 2019,
// arXiv 1906.01749). A decoder continues after TL;DR: (Radford et al. 2019, section 3.6), an encoder-decoder reads T5's prefix.
func summary(text, short string) func(r record) (Item, error) {
	return func(r record) (Item, error) {
		parts, err := r.texts(text, short)
		if err != nil {
			return Item{}, err
		}
		document := strings.TrimSpace(parts[0])
		return checked(Item{Context: document + "\nTL;DR:", Delimiter: " ", References: parts[1:], Source: "summarize: " + document}, nil)
	}
}

// languages are the names of languages in prompts, by their codes.
var languages = map[string]string{
	"cs": "Czech", "de": "German", "en": "English", "es": "Spanish", "et": "Estonian", "fi": "Finnish", "fr": "French", "gu": "Gujarati",
	"hi": "Hindi", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "lt": "Lithuanian", "lv": "Latvian", "ro": "Romanian", "ru": "Russian",
	"tr": "Turkish", "uk": "Ukrainian", "zh": "Chinese",
}

// translation reads {"translation": {FROM: text, TO: text}}, as WMT's sets are published on the Hugging Face hub. Without languages, it is
// from English into the other one. The prompts are those of lm-evaluation-harness and of T5.
func translation(from, to string) func(r record) (Item, error) {
	return func(r record) (Item, error) {
		var texts map[string]string
		if err := r.get("translation", &texts); err != nil {
			return Item{}, err
		}
		from, to, err := direction(from, to, texts)
		if err != nil {
			return Item{}, err
		}
		source, target := language(from), language(to)
		return checked(Item{
			Context: source + " phrase: " + texts[from] + "\n" + target + " phrase:", Delimiter: " ", References: []string{texts[to]},
			Source: "translate " + source + " to " + target + ": " + texts[from],
		}, nil)
	}
}

// direction returns the languages of a translation.
func direction(from, to string, texts map[string]string) (string, string, error) {
	codes := slices.Sorted(maps.Keys(texts))
	if from == "" {
		if _, ok := texts["en"]; len(codes) != 2 || !ok {
			return "", "", fmt.Errorf(`"translation" has the languages %v, want en and another one: name them, as in wmt_de-fr=FILE`, codes)
		}
		from, to = "en", codes[0]
		if to == "en" {
			to = codes[1]
		}
	}
	for _, code := range []string{from, to} {
		if texts[code] == "" {
			return "", "", fmt.Errorf(`"translation" has the languages %v, and no text in %s`, codes, code)
		}
	}
	return from, to, nil
}

func language(code string) string {
	if name, ok := languages[code]; ok {
		return name
	}
	return code
}

// ownReferences reads {"prompt", "references"}. References may be a single string.
func ownReferences(r record) (Item, error) {
	prompt, err := r.text("prompt")
	if err != nil {
		return Item{}, err
	}
	it := Item{Context: prompt}
	var one string
	if json.Unmarshal(r.keys["references"], &one) == nil {
		it.References = []string{one}
	} else if err := r.get("references", &it.References); err != nil {
		return it, err
	}
	if len(it.References) == 0 {
		return it, errors.New(`"references" is empty`)
	}
	it.Delimiter, err = r.delimiter(prompt, it.References)
	return checked(it, err)
}
