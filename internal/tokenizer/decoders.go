package tokenizer

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder is a step from tokens to text. chain rewrites the tokens of a whole text; token converts a single token
// within a text to its bytes.
type decoder struct {
	chain func(tokens []string) []string
	token func(token string) string
}

// parseDecoder parses a decoder into its steps.
func parseDecoder(raw json.RawMessage) ([]decoder, error) {
	kind, err := kindOf(raw)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "":
		return nil, nil
	case "Sequence":
		return parseSequence(raw, "decoders", parseDecoder)
	case "ByteLevel":
		return []decoder{{decodeBytes, invisible}}, nil
	case "ByteFallback":
		return []decoder{{decodeFallback, fallbackToken}}, nil
	case "Fuse":
		return []decoder{{fuse, same}}, nil
	case "Replace":
		f, err := parseReplace(raw)
		replace := func(token string) string { return f(token, growthOf(token)) }
		return []decoder{{each(replace), replace}}, err
	case "Strip":
		return parseStrip(raw)
	case "Metaspace":
		return parseMetaspaceDecoder(raw)
	case "WordPiece":
		return parseWordPieceDecoder(raw)
	case "BPEDecoder":
		return parseSuffixDecoder(raw)
	}
	return nil, unknownType(kind)
}

func same(token string) string { return token }

func each(f func(string) string) func([]string) []string {
	return func(tokens []string) []string {
		for i, t := range tokens {
			tokens[i] = f(t)
		}
		return tokens
	}
}

func fuse(tokens []string) []string { return []string{strings.Join(tokens, "")} }

func decodeBytes(tokens []string) []string {
	return []string{toValid(strings.Join(each(invisible)(tokens), ""))}
}

// fallbackByte parses a token such as <0x0A>.
func fallbackByte(token string) (byte, bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(b), err == nil
}

func fallbackToken(token string) string {
	if b, ok := fallbackByte(token); ok {
		return string([]byte{b})
	}
	return token
}

// decodeFallback joins runs of byte tokens. If a run is not valid UTF-8 as a whole, each of its bytes becomes U+FFFD.
func decodeFallback(tokens []string) []string {
	var out []string
	var bytes []byte
	flush := func() {
		switch {
		case len(bytes) == 0:
		case utf8.Valid(bytes):
			out = append(out, string(bytes))
		default:
			out = append(out, strings.Repeat("\uFFFD", len(bytes)))
		}
		bytes = bytes[:0]
	}
	for _, t := range tokens {
		if b, ok := fallbackByte(t); ok {
			bytes = append(bytes, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// parseStrip parses a decoder that strips up to start and stop copies of content from the ends of each token. It comes
// after Fuse, so it has no effect within a text.
func parseStrip(raw json.RawMessage) ([]decoder, error) {
	var f struct {
		Content     string
		Start, Stop int
	}
	err := unmarshal(raw, &f)
	strip := func(s string) string {
		for n := 0; n < f.Start && f.Content != "" && strings.HasPrefix(s, f.Content); n++ {
			s = s[len(f.Content):]
		}
		for n := 0; n < f.Stop && f.Content != "" && strings.HasSuffix(s, f.Content); n++ {
			s = s[:len(s)-len(f.Content)]
		}
		return s
	}
	return []decoder{{each(strip), same}}, err
}

func parseMetaspaceDecoder(raw json.RawMessage) ([]decoder, error) {
	f, err := readMetaspace(raw)
	spaced := func(token string) string { return strings.ReplaceAll(token, f.Mark, " ") }
	chain := func(tokens []string) []string {
		if len(tokens) > 0 && f.Scheme != "never" {
			tokens[0] = strings.ReplaceAll(tokens[0], f.Mark, "")
		}
		return each(spaced)(tokens)
	}
	return []decoder{{chain, spaced}}, err
}

func parseWordPieceDecoder(raw json.RawMessage) ([]decoder, error) {
	f := struct {
		Prefix  string `json:"prefix"`
		Cleanup bool   `json:"cleanup"`
	}{"##", true}
	err := unmarshal(raw, &f)
	clean := same
	if f.Cleanup {
		clean = englishCleanup.Replace
	}
	inside := func(token string) string {
		if tail, ok := strings.CutPrefix(token, f.Prefix); ok {
			return clean(tail)
		}
		return clean(" " + token)
	}
	chain := func(tokens []string) []string {
		for i, t := range tokens {
			if i == 0 {
				tokens[i] = clean(t)
			} else {
				tokens[i] = inside(t)
			}
		}
		return tokens
	}
	return []decoder{{chain, inside}}, err
}

// englishCleanup removes spaces that do not occur in English text.
var englishCleanup = strings.NewReplacer(" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'",
	" n't", "n't", " 'm", "'m", " do not", " don't", " 's", "'s", " 've", "'ve", " 're", "'re")

// parseSuffixDecoder parses the decoder for BPE with an end_of_word_suffix.
func parseSuffixDecoder(raw json.RawMessage) ([]decoder, error) {
	f := struct {
		Suffix string `json:"suffix"`
	}{"</w>"}
	err := unmarshal(raw, &f)
	spaced := func(token string) string { return strings.ReplaceAll(token, f.Suffix, " ") }
	chain := func(tokens []string) []string {
		if last := len(tokens) - 1; last >= 0 {
			tokens[last] = strings.ReplaceAll(tokens[last], f.Suffix, "")
		}
		return each(spaced)(tokens)
	}
	return []decoder{{chain, spaced}}, err
}
