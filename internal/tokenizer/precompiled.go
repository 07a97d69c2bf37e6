package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// precompiled is SentencePiece's normalizer: a table of replacements for short texts. keys is a double-array trie
// (darts-clone) of the texts, whose values are offsets in blob of zero-terminated replacements.
type precompiled struct {
	keys []uint32
	blob []byte
}

// parsePrecompiled parses the charsmap: the size of keys in bytes, keys and blob, little-endian, in base64.
func parsePrecompiled(raw json.RawMessage) (normalizer, error) {
	var f struct {
		Map string `json:"precompiled_charsmap"`
	}
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(f.Map)
	if err != nil {
		return nil, fmt.Errorf("precompiled_charsmap: %w", err)
	}
	if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
		return nil, fmt.Errorf("precompiled_charsmap has %d bytes, fewer than its trie", len(data))
	}
	size := int(binary.LittleEndian.Uint32(data))
	p := &precompiled{make([]uint32, size/4), data[4+size:]}
	for i := range p.keys {
		p.keys[i] = binary.LittleEndian.Uint32(data[4+4*i:])
	}
	return p.normalize, nil
}

// normalize replaces each short grapheme that is in the table, and otherwise each rune of it, as the tokenizers library
// does.
func (p *precompiled) normalize(s string, limit int) string {
	var b strings.Builder
	for len(s) > 0 {
		n := grapheme(s)
		if to, ok := p.lookup(s[:n]); ok && n < 6 {
			b.Write(to)
		} else {
			p.runes(&b, s[:n], limit)
		}
		checkGrowth(b.Len(), limit)
		s = s[n:]
	}
	return b.String()
}

func (p *precompiled) runes(b *strings.Builder, s string, limit int) {
	for len(s) > 0 {
		_, n := utf8.DecodeRuneInString(s)
		if to, ok := p.lookup(s[:n]); ok {
			b.Write(to)
		} else {
			b.WriteString(s[:n])
		}
		checkGrowth(b.Len(), limit)
		s = s[n:]
	}
}

// lookup returns the replacement for the shortest prefix of s that is in the table.
func (p *precompiled) lookup(s string) ([]byte, bool) {
	at := uint32(0)
	for i := -1; i < len(s); i++ {
		if i >= 0 {
			at ^= uint32(s[i])
		}
		if int64(at) >= int64(len(p.keys)) || i >= 0 && (s[i] == 0 || p.keys[at]&(1<<31|0xff) != uint32(s[i])) {
			return nil, false
		}
		unit := p.keys[at]
		at ^= unit >> 10 << (unit & (1 << 9) >> 6)
		if i >= 0 && unit>>8&1 == 1 {
			return p.value(at)
		}
	}
	return nil, false
}

// value returns the replacement for the leaf at a position in the trie.
func (p *precompiled) value(at uint32) ([]byte, bool) {
	if int64(at) >= int64(len(p.keys)) {
		return nil, false
	}
	start := int64(p.keys[at] &^ (1 << 31))
	if start > int64(len(p.blob)) {
		return nil, false
	}
	to, _, _ := bytes.Cut(p.blob[start:], []byte{0})
	return to, true
}

// grapheme returns the length of the first grapheme cluster of s, for clusters of up to five bytes: marks, joiners and
// modifiers belong to the preceding rune, and a line feed to its carriage return (Unicode Annex 29).
func grapheme(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	r, n := utf8.DecodeRuneInString(s)
	if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
		return n
	}
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if !extends(r) {
			break
		}
		n += size
	}
	return n
}

func extends(r rune) bool {
	const joiner, saraAm, laoAm = 0x200d, 0x0e33, 0x0eb3
	return unicode.In(r, unicode.M, unicode.Other_Grapheme_Extend) ||
		r == joiner || r == saraAm || r == laoAm || 0x1f3fb <= r && r <= 0x1f3ff
}
