package tokenizer

import (
	"slices"
	"testing"
)

func cuts(find finder, s string) (words []string) {
	find(s, func(start, end int) { words = append(words, s[start:end]) })
	return words
}

func checkScanners(t *testing.T, s string) {
	t.Helper()
	for expr, scan := range scanners {
		regex, err := compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := cuts(scan.find, s), cuts(regex, s); !slices.Equal(got, want) {
			t.Errorf("%q\n got %q\nwant %q\n for %s", s, got, want, expr)
		}
	}
}

var scanSeeds = []string{
	"", " ", "  ", "a", " a", "  a", "\n", "\n\n", " \n a", "a\r\n\r\n  b", "\t\tx", "it's we'll I'M 'S ''s '", "'", "'r", "'re",
	"12345 6789", " 1", "x1y2", "!?", " !?\n\n", "!\r\n!", "a\u00a0b\u2003\u2003c", "naïve 世界 🚀🚀", "\u0301x", "٣٤٥٦ Ⅷ½",
	"\xff\xfe", "a\xff b", "'\u017f", "  \xff", "\u2028\u2028a", "'ſ", "\u200b\u200d", "foo(bar)\n\t}\n", "x \n \n ", "\r \n\t z", " ' s",
}

func TestScanners(t *testing.T) {
	for _, s := range scanSeeds {
		checkScanners(t, s)
	}
}

func FuzzScanners(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add(s)
	}
	f.Fuzz(checkScanners)
}
