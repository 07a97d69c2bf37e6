package raw

import (
	"io"
	"strings"
	"testing"
)

func TestSeparated(t *testing.T) {
	for in, want := range map[string]string{
		"":              "",
		"text":          "",
		"text,n\na,1\n": `{"n":"1","text":"a"}` + "\n",
		"n,text\r\n1,\"a,\"\"<b>\"\"\nc\"\r\n\n2,": `{"n":"1","text":"a,\"<b>\"\nc"}` + "\n" + `{"n":"2","text":""}` + "\n",
	} {
		if got, err := io.ReadAll(Separated(strings.NewReader(in), ',')); err != nil || string(got) != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"text\na\nb,c\n":    "csv: record on line 3: wrong number of fields",
		"text\n\"a\nb\nc\n": "csv: record on line 2; parse error on line 4",
		"text\na\"b\n":      "csv: parse error on line 2",
		"a,b,a\n1,2,3\n":    `csv: two columns are named "a" in the first row`,
	} {
		if _, err := io.ReadAll(Separated(strings.NewReader(in), ',')); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", in, err, want)
		}
	}
}
