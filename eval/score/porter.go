package score

import "strings"

// stem returns the stem of a word in lower case of more than two letters: Porter, "An algorithm for suffix stripping"
// (1980), with the changes that NLTK's PorterStemmer makes by default and rouge-score therefore uses. Digits count as
// consonants.
func stem(word string) string {
	if s, ok := irregular[word]; ok {
		return s
	}
	word = plural(word)
	word = past(word)
	if s, ok := strings.CutSuffix(word, "y"); ok && len(s) > 1 && consonant(s, len(s)-1) {
		word = s + "i"
	}
	word = replace(word, 0, doubleSuffixes)
	word = replace(word, 0, longSuffixes)
	word = replace(word, 1, suffixes)
	return final(word)
}

var irregular = map[string]string{
	"skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "innings": "inning", "inning": "inning",
	"outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning", "howe": "howe",
	"proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}

// plural is step 1a.
func plural(word string) string {
	s, ies := strings.CutSuffix(word, "ies")
	switch {
	case ies && len(s) == 1:
		return s + "ie"
	case ies:
		return s + "i"
	case strings.HasSuffix(word, "sses"):
		return word[:len(word)-2]
	case strings.HasSuffix(word, "ss"):
		return word
	}
	return strings.TrimSuffix(word, "s")
}

// past is step 1b: the endings of the past tense and of the participles.
func past(word string) string {
	if s, ok := strings.CutSuffix(word, "ied"); ok {
		if len(s) == 1 {
			return s + "ie"
		}
		return s + "i"
	}
	if s, ok := strings.CutSuffix(word, "eed"); ok {
		if measure(s) > 0 {
			return s + "ee"
		}
		return word
	}
	s, ok := strings.CutSuffix(word, "ed")
	if !ok {
		s, ok = strings.CutSuffix(word, "ing")
	}
	if !ok || !hasVowel(s) {
		return word
	}
	return restored(s)
}

// restored gives a stem without "ed" or "ing" back the e that it may have lost, or takes away a doubled letter.
func restored(s string) string {
	n := len(s)
	switch {
	case strings.HasSuffix(s, "at"), strings.HasSuffix(s, "bl"), strings.HasSuffix(s, "iz"):
		return s + "e"
	case n >= 2 && s[n-1] == s[n-2] && consonant(s, n-1):
		if strings.IndexByte("lsz", s[n-1]) < 0 {
			return s[:n-1]
		}
	case measure(s) == 1 && short(s):
		return s + "e"
	}
	return s
}

// A rule replaces the ending from by to.
type rule struct{ from, to string }

// doubleSuffixes, longSuffixes and suffixes are the rules of steps 2, 3 and 4. The first whose ending fits is the one.
var (
	doubleSuffixes = []rule{
		{"ational", "ate"},
		{"tional", "tion"},
		{"enci", "ence"},
		{"anci", "ance"},
		{"izer", "ize"},
		{"bli", "ble"},
		{"alli", "al"},
		{"entli", "ent"},
		{"eli", "e"},
		{"ousli", "ous"},
		{"ization", "ize"},
		{"ation", "ate"},
		{"ator", "ate"},
		{"alism", "al"},
		{"iveness", "ive"},
		{"fulness", "ful"},
		{"ousness", "ous"},
		{"aliti", "al"},
		{"iviti", "ive"},
		{"biliti", "ble"},
		{"fulli", "ful"},
		{"logi", "log"},
	}
	longSuffixes = []rule{
		{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""}, {"ness", ""},
	}
	suffixes = []rule{
		{"al", ""},
		{"ance", ""},
		{"ence", ""},
		{"er", ""},
		{"ic", ""},
		{"able", ""},
		{"ible", ""},
		{"ant", ""},
		{"ement", ""},
		{"ment", ""},
		{"ent", ""},
		{"ion", ""},
		{"ou", ""},
		{"ism", ""},
		{"ate", ""},
		{"iti", ""},
		{"ous", ""},
		{"ive", ""},
		{"ize", ""},
	}
)

// replace applies the first rule that fits, if the measure of what is before the ending is above least.
func replace(word string, least int, rules []rule) string {
	for _, r := range rules {
		s, ok := strings.CutSuffix(word, r.from)
		if !ok {
			continue
		}
		before := s
		if r.from == "logi" { // so that short ones such as geology fit
			before += "l"
		}
		if measure(before) <= least || r.from == "ion" && !strings.HasSuffix(s, "s") && !strings.HasSuffix(s, "t") {
			return word
		}
		if r.from == "alli" { // another rule may fit what remains
			return replace(s+r.to, least, rules)
		}
		return s + r.to
	}
	return word
}

// final is step 5: a last e, and a double l.
func final(word string) string {
	if s, ok := strings.CutSuffix(word, "e"); ok {
		if m := measure(s); m > 1 || m == 1 && !short(s) {
			word = s
		}
	}
	if strings.HasSuffix(word, "ll") && measure(word[:len(word)-1]) > 1 {
		return word[:len(word)-1]
	}
	return word
}

// consonant reports whether word[i] is a consonant. A y after a consonant is a vowel.
func consonant(word string, i int) bool {
	switch word[i] {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		return i == 0 || !consonant(word, i-1)
	}
	return true
}

// measure returns m for a word of the form [C](VC)^m[V], where C and V are runs of consonants and of vowels.
func measure(word string) (m int) {
	vowel := false
	for i := range len(word) {
		c := consonant(word, i)
		if c && vowel {
			m++
		}
		vowel = !c
	}
	return m
}

func hasVowel(word string) bool {
	for i := range len(word) {
		if !consonant(word, i) {
			return true
		}
	}
	return false
}

// short reports whether a word ends in a consonant, a vowel and a consonant other than w, x and y, or is a vowel and a
// consonant.
func short(word string) bool {
	n := len(word)
	if n == 2 {
		return !consonant(word, 0) && consonant(word, 1)
	}
	return n > 2 && consonant(word, n-3) && !consonant(word, n-2) && consonant(word, n-1) && strings.IndexByte("wxy", word[n-1]) < 0
}
