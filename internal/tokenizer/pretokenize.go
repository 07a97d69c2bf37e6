package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// preTokenizer splits a piece into smaller ones, and finally into words. No piece is empty.
type preTokenizer interface {
	split(p piece, emit func(piece))
}

// sequence passes the pieces of each pre-tokenizer to the next.
type sequence []preTokenizer

func (s sequence) split(p piece, emit func(piece)) {
	switch len(s) {
	case 0:
		emit(p)
	case 1:
		s[0].split(p, emit)
	default:
		s[0].split(p, func(q piece) { s[1:].split(q, emit) })
	}
}

// parsePreTokenizer parses a pre_tokenizer into its steps.
func parsePreTokenizer(raw json.RawMessage) (sequence, error) {
	kind, err := kindOf(raw)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "":
		return nil, nil
	case "Sequence":
		return parseSequence(raw, "pretokenizers", parsePreTokenizer)
	case "ByteLevel":
		return parseByteLevel(raw)
	case "Split":
		return parseSplit(raw)
	case "Metaspace":
		return parseMetaspace(raw)
	case "Digits":
		return parseDigits(raw)
	case "Punctuation":
		return parsePunctuation(raw)
	case "CharDelimiterSplit":
		return parseDelimiter(raw)
	case "Whitespace":
		return sequence{cutter{runeRuns(isWord), false, isolated}, cutter{runeFinder(isSpace), false, removed}}, nil
	case "WhitespaceSplit":
		return sequence{cutter{runeFinder(isSpace), false, removed}}, nil
	case "BertPreTokenizer":
		return sequence{cutter{runeFinder(isSpace), false, removed}, cutter{runeFinder(isPunctuation), false, isolated}}, nil
	}
	return nil, unknownType(kind)
}

// runeRuns returns a finder of the longest runs of runes of a class.
func runeRuns(is func(rune) bool) finder {
	return func(s string, match func(start, end int)) {
		for at := 0; at < len(s); {
			start := strings.IndexFunc(s[at:], is)
			if start < 0 {
				return
			}
			start += at
			n := strings.IndexFunc(s[start:], func(r rune) bool { return !is(r) })
			if n < 0 {
				n = len(s) - start
			}
			match(start, start+n)
			at = start + n
		}
	}
}

// prefixSpace adds a space before a piece that does not start with one.
type prefixSpace struct{}

func (prefixSpace) split(p piece, emit func(piece)) {
	if !strings.HasPrefix(p.text, " ") {
		p.text = " " + p.text
	}
	emit(p)
}

// byteLevel converts the bytes of a piece to visible runes.
type byteLevel struct{}

func (byteLevel) split(p piece, emit func(piece)) { emit(piece{visible(p.text), p.start}) }

func parseByteLevel(raw json.RawMessage) (sequence, error) {
	f := struct {
		AddPrefixSpace bool `json:"add_prefix_space"`
		UseRegex       bool `json:"use_regex"`
	}{true, true}
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var s sequence
	if f.AddPrefixSpace {
		s = append(s, prefixSpace{})
	}
	if f.UseRegex {
		s = append(s, cutter{scanner(scanGPT2).find, false, isolated})
	}
	return append(s, byteLevel{}), nil
}

func parseSplit(raw json.RawMessage) (sequence, error) {
	var f struct {
		Pattern  pattern  `json:"pattern"`
		Behavior behavior `json:"behavior"`
		Invert   bool     `json:"invert"`
	}
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	find, err := f.Pattern.finder()
	if err != nil {
		return nil, err
	}
	if f.Behavior == "" {
		return nil, errors.New("behavior is missing from Split")
	}
	return sequence{cutter{find, f.Invert, f.Behavior}}, nil
}

func parseDigits(raw json.RawMessage) (sequence, error) {
	var f struct {
		Individual bool `json:"individual_digits"`
	}
	err := unmarshal(raw, &f)
	how := contiguous
	if f.Individual {
		how = isolated
	}
	return sequence{cutter{runeFinder(isNumber), false, how}}, err
}

func parsePunctuation(raw json.RawMessage) (sequence, error) {
	f := struct {
		Behavior behavior `json:"behavior"`
	}{isolated}
	err := unmarshal(raw, &f)
	return sequence{cutter{runeFinder(isPunctuation), false, f.Behavior}}, err
}

func parseDelimiter(raw json.RawMessage) (sequence, error) {
	var f struct {
		Delimiter string `json:"delimiter"`
	}
	err := unmarshal(raw, &f)
	return sequence{cutter{literal(f.Delimiter), false, removed}}, err
}

// metaspace replaces spaces by a visible rune and adds one before the text, as SentencePiece does.
type metaspace struct {
	mark   string
	scheme string // "always", "first" (only at the start of the input) or "never"
}

func (m metaspace) split(p piece, emit func(piece)) {
	p.text = strings.ReplaceAll(p.text, " ", m.mark)
	if (m.scheme == "always" || m.scheme == "first" && p.start) && !strings.HasPrefix(p.text, m.mark) {
		p.text = m.mark + p.text
	}
	emit(p)
}

type metaspaceFile struct {
	Mark           string `json:"replacement"`
	AddPrefixSpace *bool  `json:"add_prefix_space"` // before tokenizers 0.14
	Scheme         string `json:"prepend_scheme"`
	Split          bool   `json:"split"`
}

func readMetaspace(raw json.RawMessage) (metaspaceFile, error) {
	f := metaspaceFile{Scheme: "always", Split: true}
	if err := unmarshal(raw, &f); err != nil {
		return f, err
	}
	if f.AddPrefixSpace != nil && !*f.AddPrefixSpace {
		f.Scheme = "never"
	}
	if utf8.RuneCountInString(f.Mark) != 1 {
		return f, fmt.Errorf("replacement %.40q of Metaspace: expected one character", f.Mark)
	}
	switch f.Scheme {
	case "always", "first", "never":
		return f, nil
	}
	return f, fmt.Errorf("unknown prepend_scheme %q: expected always, first or never", f.Scheme)
}

func parseMetaspace(raw json.RawMessage) (sequence, error) {
	f, err := readMetaspace(raw)
	if err != nil {
		return nil, err
	}
	s := sequence{metaspace{f.Mark, f.Scheme}}
	if f.Split {
		s = append(s, cutter{literal(f.Mark), false, mergedWithNext})
	}
	return s, nil
}
