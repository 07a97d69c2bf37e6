package main

import (
	"io"

	"gqa/internal/tokenizer"
)

// typewriter prints a text as its tokens come.
type typewriter struct {
	tok    *tokenizer.Tokenizer
	w      io.Writer
	prompt string
	ids    []int32 // the prompt's and those that came
	start  int     // where the continuation begins in what all ids decode to
	done   int     // bytes printed
}

// text is the prompt and what the tokens after it add: decoded together, as the first may look different on its own.
func (t *typewriter) text() (string, error) {
	all, err := t.tok.Decode(t.ids)
	return t.prompt + all[min(t.start, len(all)):], err
}

func (t *typewriter) emit(id int32) error {
	t.ids = append(t.ids, id)
	all, err := t.text()
	if err != nil || incomplete(all) {
		return err
	}
	return t.print(all)
}

// print writes what a text adds to what stands there.
func (t *typewriter) print(all string) error {
	_, err := io.WriteString(t.w, all[min(t.done, len(all)):])
	t.done = len(all)
	return err
}

// incomplete says that a text ends in the replacement of a rune whose bytes have not all come.
func incomplete(s string) bool {
	const replacement = "\uFFFD"
	return len(s) >= len(replacement) && s[len(s)-len(replacement):] == replacement
}
