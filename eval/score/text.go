package score

import (
	"strings"
	"unicode"
)

// lower returns text in lower case as Python's str.lower does, by Unicode's full mapping: İ becomes two characters, and a
// Greek sigma depends on its place in the word.
func lower(text string) string {
	if !strings.ContainsAny(text, "İΣ") {
		return strings.ToLower(text)
	}
	runes := []rune(text)
	var b strings.Builder
	for i, r := range runes {
		switch {
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && endsWord(runes, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// endsWord reports whether a letter with case precedes text[i] but none follows it (Final_Sigma, section 3.13 of the
// Unicode standard).
func endsWord(text []rune, i int) bool {
	before, after := i-1, i+1
	for before >= 0 && caseIgnorable(text[before]) {
		before--
	}
	for after < len(text) && caseIgnorable(text[after]) {
		after++
	}
	return before >= 0 && cased(text[before]) && (after == len(text) || !cased(text[after]))
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// caseIgnorable reports whether r is a mark or stands within words: the property Case_Ignorable.
func caseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) || strings.ContainsRune("'.:\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a", r)
}

// isSpace reports whether r separates words for Python's str.split: besides what unicode.IsSpace knows, four control
// characters.
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
