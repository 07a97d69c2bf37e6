package score

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// lower returns text in lower case by Unicode's full mapping, as Python's str.lower: İ becomes two characters, and a
// sigma depends on its place in the word.
func lower(text string) string {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return cases.Lower(language.Und).String(text)
		}
	}
	return strings.ToLower(text)
}

// isSpace reports whether Python's str.split separates words at r: four control characters more than unicode.IsSpace.
func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

func fields(text string) []string { return strings.FieldsFunc(text, isSpace) }

// shared returns the number of elements that a and b have in common, counting repeated ones.
func shared(a, b []string) (n int) {
	left := make(map[string]int, len(a))
	for _, s := range a {
		left[s]++
	}
	for _, s := range b {
		if left[s] > 0 {
			left[s]--
			n++
		}
	}
	return n
}
