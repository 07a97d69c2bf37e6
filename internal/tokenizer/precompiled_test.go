package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"
)

// charsmap builds a precompiled_charsmap. The children of each node of its trie
// have a block of 256 units of their own, with the place of the value first.
func charsmap(table map[string]string) string {
	units := make([]uint32, 1)
	blocks := map[string]uint32{}
	var blob []byte
	block := func(prefix string, at uint32) uint32 {
		if _, ok := blocks[prefix]; !ok {
			blocks[prefix] = uint32(len(units)+255) &^ 255
			units = append(units, make([]uint32, blocks[prefix]+256-uint32(len(units)))...)
			units[at] |= (at ^ blocks[prefix]) << 10
		}
		return blocks[prefix]
	}
	for key, value := range table {
		at := uint32(0)
		for i := range len(key) {
			at = block(key[:i], at) ^ uint32(key[i])
			units[at] |= uint32(key[i])
		}
		leaf := block(key, at)
		units[at] |= 1 << 8
		units[leaf] = uint32(len(blob)) | 1<<31
		blob = append(append(blob, value...), 0)
	}
	data := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
	for _, u := range units {
		data = binary.LittleEndian.AppendUint32(data, u)
	}
	return base64.StdEncoding.EncodeToString(append(data, blob...))
}

func TestPrecompiled(t *testing.T) {
	table := charsmap(map[string]string{"ﬁ": "fi", "\t": " ", "\r": " ", "\u200b": "", "e\u0301": "é", "①": "1", "é": "E"})
	raw, err := json.Marshal(map[string]string{"type": "Precompiled", "precompiled_charsmap": table})
	if err != nil {
		t.Fatal(err)
	}
	normalize, err := parseNormalizer(raw)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"":                        "",
		"ﬁn\t①":                   "fin 1",
		"e\u0301":                 "é",
		"e\u0301\u0302":           "é", // 5 bytes: the whole grapheme gives way
		"e\u0301\u0302\u0303":     "e\u0301\u0302\u0303",
		"e\u0302\u0301":           "e\u0302\u0301",
		"\r\n":                    " ",
		"a\u200bb":                "ab",
		"①\u0301":                 "1",
		"①\u0301\u0301":           "1\u0301\u0301", // 7 bytes: rune by rune
		"é":                       "E",
		"世界\x00x":                 "世界\x00x",
		"\t\u0301":                " \u0301",
		"a\U0001f3fb①\ufe0f":      "a\U0001f3fb1\ufe0f",
		"\xff\t":                  "\xff ",
		"e\u0301\u200d\U0001f600": "e\u0301\u200d\U0001f600",
	} {
		if got := normalize(in, math.MaxInt); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
