package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// The regular expressions that nearly all byte-level tokenizers split words with have a hand-written scanner each: a
// function that returns the length of the first word of a non-empty text. Scanners are several times as fast as regular
// expressions.
const (
	// gpt2Pattern is GPT-2's.
	gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	// llama3Pattern is GPT-4's and Llama 3's; qwen2Pattern is Qwen 2's and 3's.
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

type scanner func(s string) int

var scanners = map[string]scanner{
	gpt2Pattern:   scanGPT2,
	llama3Pattern: func(s string) int { return scanLlama3(s, 3) },
	qwen2Pattern:  func(s string) int { return scanLlama3(s, 1) },
}

// class is a character class that the patterns distinguish.
type class uint8

const (
	other class = iota
	letter
	number
	space
)

var asciiClass = func() (table [utf8.RuneSelf]class) {
	for r := range table {
		table[r] = classOf(rune(r))
	}
	return table
}()

func classOf(r rune) class {
	switch {
	case isLetter(r):
		return letter
	case isNumber(r):
		return number
	case isSpace(r):
		return space
	}
	return other
}

// classAt returns the class and the length of the first rune of s[i:].
func classAt(s string, i int) (class, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(r), n
}

// run returns the end of the run of runes of class c that starts at i.
func run(s string, i int, c class) int {
	for i < len(s) {
		got, n := classAt(s, i)
		if got != c {
			break
		}
		i += n
	}
	return i
}

func scanGPT2(s string) int {
	if n := contraction(s); n > 0 {
		return n
	}
	i := 0
	if s[0] == ' ' && len(s) > 1 {
		i = 1
	}
	if c, n := classAt(s, i); c != space {
		return run(s, i+n, c)
	}
	return spaces(s, run(s, 0, space))
}

// scanLlama3 splits numbers into groups of at most digits runes.
func scanLlama3(s string, digits int) int {
	if n := anyContraction(s); n > 0 {
		return n
	}
	first, n := classAt(s, 0)
	switch {
	case first == letter:
		return run(s, n, letter)
	case first == number:
		return numbers(s, digits)
	case s[0] != '\r' && s[0] != '\n' && n < len(s):
		if c, m := classAt(s, n); c == letter {
			return run(s, n+m, letter)
		}
	}
	if n := symbols(s); n > 0 {
		return n
	}
	end := run(s, 0, space)
	if newline := strings.LastIndexAny(s[:end], "\r\n"); newline >= 0 {
		return newline + 1
	}
	return spaces(s, end)
}

// contraction returns the length of 's|'t|'re|'ve|'m|'ll|'d at the start of s, or 0.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) > 2 {
		switch s[1:3] {
		case "re", "ve", "ll":
			return 3
		}
	}
	return 0
}

// anyContraction is a case-insensitive contraction: of its letters, only s has a third form, the long ſ.
func anyContraction(s string) int {
	if s[0] != '\'' {
		return 0
	}
	if strings.HasPrefix(s, "'ſ") {
		return len("'ſ")
	}
	return contraction(strings.ToLower(s[:min(3, len(s))]))
}

// spaces returns the length of \s+(?!\S)|\s+ in s, which starts with white space up to end: all of it at the end of the
// text, otherwise all but the last rune, unless that is nothing.
func spaces(s string, end int) int {
	if end == len(s) {
		return end
	}
	_, n := utf8.DecodeLastRuneInString(s[:end])
	if n == end {
		return end
	}
	return end - n
}

// numbers returns the length of \p{N}{1,most}.
func numbers(s string, most int) int {
	i := 0
	for ; i < len(s) && most > 0; most-- {
		c, n := classAt(s, i)
		if c != number {
			break
		}
		i += n
	}
	return i
}

// symbols returns the length of " ?[^\s\p{L}\p{N}]+[\r\n]*" at the start of s, or 0.
func symbols(s string) int {
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	end := run(s, i, other)
	if end == i {
		return 0
	}
	return len(s) - len(strings.TrimLeft(s[end:], "\r\n"))
}
