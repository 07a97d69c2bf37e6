package tokenizer

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// addedTokens are the tokens outside the model's vocabulary, which are found in the text before anything else: raw ones
// in the original text, normalized ones in the output of the normalizer.
type addedTokens struct {
	raw, normalized matcher
	ids             map[string]int32
	special         map[int32]bool
}

// addedToken is one entry of added_tokens.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // matches only if no word character is adjacent
	LStrip     bool   `json:"lstrip"`      // includes the white space before it
	RStrip     bool   `json:"rstrip"`      // includes the white space after it
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// UnmarshalJSON sets Normalized, if "normalized" is missing, unless the token is special, as the tokenizers library
// does.
func (a *addedToken) UnmarshalJSON(data []byte) error {
	type plain addedToken
	f := struct {
		*plain
		Normalized *bool `json:"normalized"`
	}{plain: (*plain)(a)}
	if err := unmarshal(data, &f); err != nil {
		return err
	}
	a.Normalized = !a.Special
	if f.Normalized != nil {
		a.Normalized = *f.Normalized
	}
	return nil
}

// newAddedTokens sorts the tokens into the two matchers. A token that is also in the model's vocabulary keeps the
// model's ID.
func newAddedTokens(tokens []addedToken, vocab map[string]int32, normalize func(string) string) addedTokens {
	a := addedTokens{ids: make(map[string]int32, len(tokens)), special: map[int32]bool{}}
	for _, tok := range tokens {
		if id, ok := vocab[tok.Content]; ok {
			tok.ID = id
		}
		a.ids[tok.Content] = tok.ID
		a.special[tok.ID] = tok.Special
		switch {
		case !tok.Normalized:
			a.raw.add(tok.Content, tok)
		default:
			a.normalized.add(normalize(tok.Content), tok)
		}
	}
	return a
}

// matcher finds tokens in a text: the leftmost and, among several, the longest.
type matcher struct {
	tokens  map[string]addedToken
	lengths [256][]int // lengths of the tokens that start with a byte, in decreasing order
}

func (m *matcher) add(text string, tok addedToken) {
	if text == "" {
		return
	}
	if m.tokens == nil {
		m.tokens = map[string]addedToken{}
	}
	m.tokens[text] = tok
	lengths := &m.lengths[text[0]]
	if i, ok := slices.BinarySearchFunc(*lengths, len(text), func(a, b int) int { return cmp.Compare(b, a) }); !ok {
		*lengths = slices.Insert(*lengths, i, len(text))
	}
}

// split cuts p at the tokens in it and calls token or rest for each part.
func (m *matcher) split(p piece, token func(id int32), rest func(piece)) {
	s, done := p.text, 0
	emit := func(end int) {
		if done < end {
			rest(piece{s[done:end], p.start && done == 0})
		}
	}
	for i := 0; i < len(s) && len(m.tokens) > 0; {
		n, tok := m.match(s[i:])
		if n == 0 {
			i++
			continue
		}
		start, end := i, i+n
		i = end
		if tok.SingleWord && (endsInWord(s[:start]) || startsWithWord(s[end:])) {
			continue
		}
		if tok.LStrip {
			start = max(done, len(trimRightSpace(s[:start])))
		}
		if tok.RStrip {
			end = len(s) - len(trimLeftSpace(s[end:]))
		}
		emit(start)
		token(tok.ID)
		done, i = end, max(i, end)
	}
	emit(len(s))
}

// match returns the longest token that is a prefix of s, and its length in s.
func (m *matcher) match(s string) (int, addedToken) {
	for _, n := range m.lengths[s[0]] {
		if n <= len(s) {
			if tok, ok := m.tokens[s[:n]]; ok {
				return n, tok
			}
		}
	}
	return 0, addedToken{}
}

func endsInWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

func trimLeftSpace(s string) string  { return strings.TrimLeftFunc(s, isSpace) }
func trimRightSpace(s string) string { return strings.TrimRightFunc(s, isSpace) }
