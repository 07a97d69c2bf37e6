package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// jsonString returns s as a JSON string.
func jsonString(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func replacement(from, to string) string {
	return fmt.Sprintf(`{"type":"Replace","pattern":{"String":%s},"content":%s}`, jsonString(from), jsonString(to))
}

// The output of a normalizer is bounded, whatever its steps.
func TestNormalizersDoNotBlowUp(t *testing.T) {
	long := strings.Repeat("a", 10000)
	sequence := func(steps ...string) string {
		return `{"type":"Sequence","normalizers":[` + strings.Join(steps, ",") + `]}`
	}
	grow := make([]string, 20)
	for i := range grow {
		grow[i] = replacement("a", "aaaa")
	}
	for name, normalizer := range map[string]string{
		"one replacement":  replacement("a", long),
		"a chain":          sequence(grow...),
		"nested":           sequence(sequence(grow[:10]...), sequence(grow[:10]...)),
		"of nothing":       replacement("", long),
		"by expression":    `{"type":"Replace","pattern":{"Regex":"a|(?=b)"},"content":"` + long + `"}`,
		"a prefix":         `{"type":"Prepend","prepend":"` + strings.Repeat(long, 100) + `"}`,
		"charsmap":         `{"type":"Precompiled","precompiled_charsmap":"` + charsmap(map[string]string{"a": long}) + `"}`,
		"before and after": sequence(`{"type":"NFKD"}`, replacement("a", long), `{"type":"NFKD"}`, `{"type":"ByteLevel"}`),
	} {
		tok, err := parseTokenizer([]byte(spec(map[string]string{"normalizer": normalizer})))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range []string{strings.Repeat("a", 1000), strings.Repeat("ab", 10000)} {
			begin := time.Now()
			ids, err := tok.Encode(s)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("out of one of %d", len(s))) || time.Since(begin) > 5*time.Second {
				t.Errorf("%s: %d ids, %v, after %v", name, len(ids), err, time.Since(begin))
			}
		}
	}
}

// Usual normalizers work on the texts that grow the most.
func TestNormalizersMayGrow(t *testing.T) {
	for normalizer, s := range map[string]string{
		`{"type":"NFKD"}`: "\ufdfa", `{"type":"NFD"}`: "\U0001d160", `{"type":"ByteLevel"}`: "世", replacement(" ", "▁"): " ",
		`{"type":"BertNormalizer"}`: "世", `{"type":"Lowercase"}`: "İ",
	} {
		tok, err := parseTokenizer([]byte(spec(map[string]string{"normalizer": normalizer})))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 100000} {
			if _, err := tok.Encode(strings.Repeat(s, n)); err != nil {
				t.Errorf("%s of %d %q: %v", normalizer, n, s, err)
			}
		}
	}
}

// Added tokens are normalized while the tokenizer is loaded.
func TestAddedTokenDoesNotBlowUp(t *testing.T) {
	_, err := parseTokenizer([]byte(spec(map[string]string{
		"normalizer":   replacement("a", strings.Repeat("a", 10000)),
		"added_tokens": `[{"id":5,"content":"aaa","normalized":true}]`,
	})))
	if err == nil || !strings.Contains(err.Error(), "out of one of 3") {
		t.Errorf("got error %v", err)
	}
}

func TestDecodersDoNotBlowUp(t *testing.T) {
	steps := strings.Repeat(replacement("a", "aaaa")+",", 20)
	tok, err := parseTokenizer([]byte(spec(map[string]string{"decoder": `{"type":"Sequence","decoders":[` + steps + `{"type":"Fuse"}]}`})))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := tok.Decode([]int32{0, 0, 0}); err == nil {
		t.Errorf("Decode gives %d bytes", len(text))
	}
	if b, err := tok.TokenBytes(0); err == nil {
		t.Errorf("TokenBytes gives %d bytes", len(b))
	}
}

// Matching is stopped if an expression backtracks endlessly, or if many matches take long in total.
func TestPatternsEnd(t *testing.T) {
	old := matchTime
	defer func() { matchTime = old }()
	matchTime = 200 * time.Millisecond
	for expr, s := range map[string]string{
		`(a+)+$`:             strings.Repeat("a", 40) + "b",
		`(a|a)*b|a`:          strings.Repeat("a", 50000),
		`(.*)(.*)(.*)(.*)bb`: strings.Repeat("ba", 500),
	} {
		for part, value := range map[string]string{
			"pre_tokenizer": `{"type":"Split","pattern":{"Regex":%s},"behavior":"Isolated"}`,
			"normalizer":    `{"type":"Replace","pattern":{"Regex":%s},"content":"a"}`,
		} {
			tok, err := parseTokenizer([]byte(spec(map[string]string{part: fmt.Sprintf(value, jsonString(expr))})))
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err = tok.Encode(s)
			if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "to search a text of") || took > 5*time.Second {
				t.Errorf("%s, %s: %v after %v", part, expr, err, took)
			}
		}
	}
}
