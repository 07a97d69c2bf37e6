package tokenizer

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// The expected matches are Oniguruma 6.9.8's.
func TestCompile(t *testing.T) {
	for _, c := range []struct {
		expr, in string
		want     []string
	}{
		{`[[:alpha:]]+`, "a\u0301ःⅧⓐ5_", []string{"a", "ःⅧⓐ"}},
		{`[[:alnum:]_]+`, "Ⅷ5_a\u0301½", []string{"Ⅷ5_a"}},
		{`[[:lower:]]+`, "aʰⅷA", []string{"aʰⅷ"}},
		{`[[:upper:]]+`, "AⅧⒶa", []string{"AⅧⒶ"}},
		{`[^[:ascii:]]+`, "aé¾b", []string{"é¾"}},
		{`[[:blank:][:cntrl:]]+`, "a \t\u0001\n", []string{" \t\u0001\n"}},
		{`\w+`, "Ⅷ½²¾①\u200da_", []string{"Ⅷ½²¾", "a_"}},
		{`[\w]+`, "Ⅷ½²¾①\u200da_", []string{"Ⅷ", "a_"}},
		{`\W+`, "½ ②¾", []string{" ②"}},
		{`[^\w]+`, "½ ②¾", []string{"½ ②¾"}},
		{`\h+|[\h']+`, "g9aF'", []string{"9aF", "'"}},
		{`'(?i:[sdmt]|ll|ve|re)`, "'S 'ſ 'lL 'Ve 'x", []string{"'S", "'ſ", "'lL", "'Ve"}},
		{`(?i)k+`, "kK\u212a", []string{"kK\u212a"}},
		{`(?i:[j-l]+)`, "JkK\u212aLm", []string{"JkK\u212aL"}},
		{`(?i:[^s]+)`, "asSſb", []string{"a", "b"}},
		{`(?i:σ)s`, "ςs Σs σS", []string{"ςs", "Σs"}},
		{`(?i:a(?-i:b)c)`, "ABC AbC", []string{"AbC"}},
		{`(?:(?i)a)b`, "Ab AB ab", []string{"Ab", "ab"}},
		{`(?i)(?<s>t)\x4b`, "tk TK", []string{"tk", "TK"}},
		{`(?i:[\x6a-\x6c\\]+)`, "JkK\u212aL\\m", []string{"JkK\u212aL\\"}},
		{`(?im:a.)`, "A\n", []string{"A\n"}},
		{`(?m-i:.)`, "\n", []string{"\n"}},
		{`(?i:é{2})+`, "éÉÉé", []string{"éÉÉé"}},
		{`(?i:s)++s?`, "sSſs", []string{"sSſs"}},
		{`(?i)İ|[h-j]`, "iIİ", []string{"i", "I", "İ"}},
	} {
		find, err := compile(c.expr)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := cuts(find, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s in %q: got %q, want %q", c.expr, c.in, got, c.want)
		}
	}
}

// What cannot be expressed in .NET's syntax is rejected, not misread.
func TestCompileErrors(t *testing.T) {
	for expr, want := range map[string]string{
		`[[:graph:]]`:  "[:graph:] is not supported",
		`[[:^alpha:]]`: "[:^alpha:] is not supported",
		`[a-z&&[^b]]`:  "(&&) are not supported",
		`[a[^b]]`:      "negated class within a class",
		`(?i)[a`:       "without its ]",
		`a\`:           `\ at the end`,
	} {
		if _, err := compile(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", expr, err, want)
		}
	}
}

// An empty pattern matches around every rune, but not in an empty text.
func TestReplaceNothing(t *testing.T) {
	replace, err := parseReplace([]byte(`{"pattern":{"String":""},"content":"-"}`))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"aé": "-a-é-", "": ""} {
		if got := replace(in, math.MaxInt); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
