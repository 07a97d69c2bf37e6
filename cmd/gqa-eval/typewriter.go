package main

import (
	"io"

	"gqa/internal/tokenizer"
)

// typewriter prints a text token by token.
type typewriter struct {
	tok    *tokenizer.Tokenizer
	w      io.Writer
	prompt string
	ids    []int32 // of the prompt and of the tokens so far
	start  int     // where the continuation begins in the text of all ids
	done   int     // number of bytes printed
}

// text returns the prompt and the text that the tokens after it add. They are decoded together, because the first may
// look different on its own.
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

// print writes what a text adds to what was already printed.
func (t *typewriter) print(all string) error {
	_, err := io.WriteString(t.w, all[min(t.done, len(all)):])
	t.done = len(all)
	return err
}

// incomplete reports whether a text ends in the replacement of a rune whose bytes are not complete.
func incomplete(s string) bool {
	const replacement = "\uFFFD"
	return len(s) >= len(replacement) && s[len(s)-len(replacement):] == replacement
}
