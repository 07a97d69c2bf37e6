package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// finder calls match for each match in s, in order, as byte offsets.
type finder func(s string, match func(start, end int))

// pattern is the JSON form of a pattern: {"String": "…"} or {"Regex": "…"}.
type pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

func (p pattern) finder() (finder, error) {
	switch {
	case p.String != nil && *p.String == "":
		return compile("") // the library turns every String into an expression
	case p.String != nil:
		return literal(*p.String), nil
	case p.Regex == nil:
		return nil, errors.New(`pattern has neither "String" nor "Regex"`)
	}
	if scan, ok := scanners[*p.Regex]; ok {
		return scan.find, nil
	}
	return compile(*p.Regex)
}

// find reports one word after another, without gaps.
func (scan scanner) find(s string, match func(start, end int)) {
	for i := 0; i < len(s); {
		n := scan(s[i:])
		match(i, i+n)
		i += n
	}
}

func literal(text string) finder {
	return func(s string, match func(start, end int)) {
		for i := 0; text != ""; {
			n := strings.Index(s[i:], text)
			if n < 0 {
				return
			}
			match(i+n, i+n+len(text))
			i += n + len(text)
		}
	}
}

// runeFinder returns a finder of single runes of a class.
func runeFinder(is func(rune) bool) finder {
	return func(s string, match func(start, end int)) {
		for i := 0; i < len(s); {
			r, n := utf8.DecodeRuneInString(s[i:])
			if is(r) {
				match(i, i+n)
			}
			i += n
		}
	}
}

// compile compiles an expression of Oniguruma, the library behind tokenizer.json.
func compile(expr string) (finder, error) {
	dotnet, err := translate(expr)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(dotnet, regexp2.Multiline)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expr, err)
	}
	re.MatchTimeout = matchTime
	return func(s string, match func(start, end int)) { findAll(re, expr, s, match) }, nil
}

// findAll finds expr. It walks s along with the runes that regexp2 works on, to convert rune offsets to byte offsets. A
// match can only fail with a timeout; the time limit is for all matches together. In an empty text it finds nothing,
// not even an empty match, like the library.
func findAll(re *regexp2.Regexp, expr, s string, match func(start, end int)) {
	if s == "" {
		return
	}
	at, runes := 0, 0
	offset := func(rune int) int {
		for ; runes < rune; runes++ {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
		}
		return at
	}
	begin := time.Now()
	m, err := re.FindRunesMatch([]rune(s))
	for ; m != nil && err == nil && time.Since(begin) < re.MatchTimeout; m, err = re.FindNextMatch(m) {
		start := offset(m.Index)
		match(start, offset(m.Index+m.Length))
	}
	if m != nil || err != nil {
		exceed("pattern %.60q takes more than %v to search a text of %d bytes: it backtracks too much", expr, re.MatchTimeout, len(s))
	}
}

// behavior says what happens to the matches at which a text is split.
type behavior string

const (
	isolated           behavior = "Isolated"
	removed            behavior = "Removed"
	contiguous         behavior = "Contiguous"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
)

func (b *behavior) UnmarshalJSON(data []byte) error {
	var s string
	if err := unmarshal(data, &s); err != nil {
		return err
	}
	switch *b = behavior(s); *b {
	case isolated, removed, contiguous, mergedWithPrevious, mergedWithNext:
		return nil
	}
	return fmt.Errorf("unknown behavior %q: expected Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext", s)
}

// cutter is a preTokenizer that splits a text at the matches of a pattern.
type cutter struct {
	find   finder
	invert bool // split at the text between the matches instead
	how    behavior
}

// split splits p, leaving out empty and removed parts.
func (c cutter) split(p piece, emit func(piece)) {
	part := func(start, end int) {
		if start < end {
			emit(piece{p.text[start:end], p.start && start == 0})
		}
	}
	done := 0      // everything before has been emitted
	last := 0      // p.text[done:last] is pending
	after := false // the part before last is a match
	c.parts(p.text, func(start, end int, matched bool) {
		switch {
		case c.how == removed && matched:
			part(done, start)
			done = end
		case c.joins(after, matched):
		default:
			part(done, start)
			done = start
		}
		last, after = end, matched
	})
	part(done, last)
}

// joins reports whether a part is merged with the part before it.
func (c cutter) joins(before, matched bool) bool {
	switch c.how {
	case contiguous:
		return before == matched
	case mergedWithPrevious:
		return matched && !before
	case mergedWithNext:
		return before && !matched
	}
	return false
}

// parts calls each for the matches in s and for the text between them.
func (c cutter) parts(s string, each func(start, end int, matched bool)) {
	at := 0
	c.find(s, func(start, end int) {
		if at < start {
			each(at, start, c.invert)
		}
		each(start, end, !c.invert)
		at = end
	})
	if at < len(s) {
		each(at, len(s), c.invert)
	}
}
