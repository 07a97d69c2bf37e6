package tokenizer

import "unicode"

// Character classes of the regular expressions used by tokenizers, in the Unicode sense.

func isLetter(r rune) bool { return unicode.IsLetter(r) } // \p{L}
func isNumber(r rune) bool { return unicode.IsNumber(r) } // \p{N}
func isSpace(r rune) bool  { return unicode.IsSpace(r) }  // \s: White_Space

// isWord reports whether a rune matches \w: Alphabetic, marks, decimal digits, connectors and joiners
// (Unicode Technical Standard 18, annex C).
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc,
		unicode.Other_Alphabetic, unicode.Join_Control)
}

func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < 128 && unicode.IsSymbol(r)
}
