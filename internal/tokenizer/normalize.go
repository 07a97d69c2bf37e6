package tokenizer

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a text before it is split into words. The result may have up to limit bytes; beyond that it
// panics with a limitError.
type normalizer func(s string, limit int) string

// plain returns a normalizer whose results are at most a few times as long as the text.
func plain(f func(string) string) normalizer {
	return func(s string, limit int) string {
		s = f(s)
		checkGrowth(len(s), limit)
		return s
	}
}

// parseNormalizer parses a normalizer; nil changes nothing.
func parseNormalizer(raw json.RawMessage) (normalizer, error) {
	kind, err := kindOf(raw)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "":
		return nil, nil
	case "Sequence":
		return parseNormalizers(raw)
	case "NFC":
		return plain(norm.NFC.String), nil
	case "NFD":
		return plain(norm.NFD.String), nil
	case "NFKC":
		return plain(norm.NFKC.String), nil
	case "NFKD":
		return plain(norm.NFKD.String), nil
	case "Lowercase":
		return plain(lowercase), nil
	case "StripAccents":
		return without(unicode.M), nil
	case "Strip":
		return parseTrim(raw)
	case "Replace":
		return parseReplace(raw)
	case "Prepend":
		return parsePrepend(raw)
	case "ByteLevel":
		return plain(visible), nil
	case "BertNormalizer":
		return parseBert(raw)
	case "Precompiled":
		return parsePrecompiled(raw)
	}
	return nil, unknownType(kind)
}

func parseNormalizers(raw json.RawMessage) (normalizer, error) {
	steps, err := parseSequence(raw, "normalizers", func(raw json.RawMessage) ([]normalizer, error) {
		n, err := parseNormalizer(raw)
		return []normalizer{n}, err
	})
	return inOrder(steps), err
}

func inOrder(steps []normalizer) normalizer {
	return func(s string, limit int) string {
		for _, f := range steps {
			if f != nil {
				s = f(s, limit)
			}
		}
		return s
	}
}

// lowercase applies Unicode's full mapping, which maps one rune to two.
func lowercase(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, "İ", "i̇"))
}

func without(table *unicode.RangeTable) normalizer {
	return plain(func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.Is(table, r) {
				return -1
			}
			return r
		}, s)
	})
}

func parseTrim(raw json.RawMessage) (normalizer, error) {
	var f struct {
		Left  bool `json:"strip_left"`
		Right bool `json:"strip_right"`
	}
	err := unmarshal(raw, &f)
	return plain(func(s string) string {
		if f.Left {
			s = trimLeftSpace(s)
		}
		if f.Right {
			s = trimRightSpace(s)
		}
		return s
	}), err
}

func parsePrepend(raw json.RawMessage) (normalizer, error) {
	var f struct {
		Text string `json:"prepend"`
	}
	err := unmarshal(raw, &f)
	return plain(func(s string) string {
		if s == "" {
			return s
		}
		return f.Text + s
	}), err
}

// parseReplace parses Replace, which is both a normalizer and a decoder.
func parseReplace(raw json.RawMessage) (normalizer, error) {
	var f struct {
		Pattern pattern `json:"pattern"`
		Content *string `json:"content"`
	}
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Content == nil {
		return nil, errors.New("content is missing from Replace")
	}
	find, err := f.Pattern.finder()
	return replaceMatches(find, *f.Content), err
}

func replaceMatches(find finder, content string) normalizer {
	return func(s string, limit int) string {
		var b strings.Builder
		at := 0
		find(s, func(start, end int) {
			b.WriteString(s[at:start])
			b.WriteString(content)
			checkGrowth(b.Len(), limit)
			at = end
		})
		if at == 0 && b.Len() == 0 {
			return s
		}
		b.WriteString(s[at:])
		checkGrowth(b.Len(), limit)
		return b.String()
	}
}

// parseBert parses BERT's normalizer (Devlin et al. 2019).
func parseBert(raw json.RawMessage) (normalizer, error) {
	f := struct {
		Clean     bool  `json:"clean_text"`
		Chinese   bool  `json:"handle_chinese_chars"`
		Strip     *bool `json:"strip_accents"` // null: same as lowercase
		Lowercase bool  `json:"lowercase"`
	}{true, true, nil, true}
	err := unmarshal(raw, &f)
	var steps []normalizer
	if f.Clean {
		steps = append(steps, plain(cleanText))
	}
	if f.Chinese {
		steps = append(steps, plain(spaceIdeographs))
	}
	if f.Strip == nil && f.Lowercase || f.Strip != nil && *f.Strip {
		steps = append(steps, plain(norm.NFD.String), without(unicode.Mn))
	}
	if f.Lowercase {
		steps = append(steps, plain(lowercase))
	}
	return inOrder(steps), err
}

// control are the categories that clean_text removes; unassigned runes are kept.
var control = []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs}

// cleanText removes control characters and replaces every white space by a space.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r == unicode.ReplacementChar || unicode.In(r, control...):
			return -1
		case isSpace(r):
			return ' '
		}
		return r
	}, s)
}

// ideographs are the CJK blocks listed in the tokenizers library: without kana and hangul, and with a gap in extension
// E.
var ideographs = &unicode.RangeTable{
	R16: []unicode.Range16{{0x3400, 0x4dbf, 1}, {0x4e00, 0x9fff, 1}, {0xf900, 0xfaff, 1}},
	R32: []unicode.Range32{{0x20000, 0x2a6df, 1}, {0x2a700, 0x2b81f, 1}, {0x2b920, 0x2ceaf, 1}, {0x2f800, 0x2fa1f, 1}},
}

// spaceIdeographs surrounds each ideograph with spaces.
func spaceIdeographs(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.Is(ideographs, r) {
			b.WriteString(" " + string(r) + " ")
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
