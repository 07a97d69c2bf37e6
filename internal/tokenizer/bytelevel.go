package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// The byte-level alphabet of GPT-2 (Radford et al. 2019) maps each byte to a visible rune: printable Latin-1 characters
// to themselves, and the others to U+0100 onwards.
var (
	byteRune [256]rune
	runeByte = map[rune]byte{}
)

func init() {
	next := rune(256)
	for b := range rune(256) {
		r := b
		if !('!' <= b && b <= '~' || '¡' <= b && b <= '¬' || '®' <= b && b <= 'ÿ') {
			r, next = next, next+1
		}
		byteRune[b], runeByte[r] = r, byte(b)
	}
}

// visible returns the bytes of s in the byte-level alphabet.
func visible(s string) string {
	buf := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		buf = utf8.AppendRune(buf, byteRune[s[i]])
	}
	return string(buf)
}

// invisible reverses visible. A token that contains a rune outside the alphabet (such as an added token) is returned
// unchanged.
func invisible(token string) string {
	buf := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := runeByte[r]
		if !ok {
			return token
		}
		buf = append(buf, b)
	}
	return string(buf)
}

// toValid replaces each ill-formed part of s by one U+FFFD. A part is the longest prefix of a well-formed sequence, or
// one byte (Unicode 3.9, "maximal subparts").
func toValid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = subpart(s)
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// subpart returns the length of the ill-formed part at the start of s: it extends as long as some continuation could
// complete a rune.
func subpart(s string) int {
	n := 1
	for n < len(s) && n < utf8.UTFMax && !utf8.FullRuneInString(s[:n]) && canFollow(s[:n], s[n]) {
		n++
	}
	return n
}

// canFollow reports whether start+b is a prefix of some rune, given that start is. utf8.FullRune reports true as soon
// as a string can only decode to an error.
func canFollow(start string, b byte) bool {
	s := start + string([]byte{b})
	if !utf8.FullRuneInString(s) {
		return true
	}
	r, n := utf8.DecodeRuneInString(s)
	return r != utf8.RuneError || n > 1
}
