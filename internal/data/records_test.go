package data

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// texts returns the documents of a file of records.
func texts(r io.Reader, key string) (docs []string, nulls int, err error) {
	var bad error
	reader := recordReader{r: bufio.NewReaderSize(r, 16), keys: keys{key}, doc: document{emit: func(p part) error {
		if p.bad != nil {
			bad = p.bad
			return errStop
		}
		if !p.Resumes {
			docs = append(docs, "")
		}
		docs[len(docs)-1] += replaceInvalid(p.Text)
		return nil
	}}}
	if err = reader.readAll(); err == errStop {
		err = bad
	}
	return docs, reader.nulls, err
}

func TestRecords(t *testing.T) {
	long := strings.Repeat("long", 1000)
	for _, c := range []struct {
		in    string
		want  []string
		nulls int
	}{
		{``, nil, 0},
		{"\n\n", nil, 0},
		{`{"text":"a"}`, []string{"a"}, 0},
		{"{\"text\":\"a\"}\r\n\n{\"id\":7,\"text\":\"\"}\n{\"text\":\"b\\nc\"}", []string{"a", "b\nc"}, 0},
		{`[{"text":"a"},{"text":"b","more":[1,{"x":[]},null]}]`, []string{"a", "b"}, 0},
		{"[\n  {\n    \"text\": \"a\"\n  }\n]\n", []string{"a"}, 0},
		{`["a", "b", ""]`, []string{"a", "b"}, 0},
		{"\"a\"\n\"b\"", []string{"a", "b"}, 0},
		{`[]`, nil, 0},
		{"{\"text\":null}\n{\"text\":\"a\"}", []string{"a"}, 1},
		{`{"score":NaN,"text":"a","low":-Infinity,"high":Infinity,"n":-1.5e-7}`, []string{"a"}, 0},
		{`{"a":true,"b":false,"c":null,"d":"\"}","e":{},"text":"x"}`, []string{"x"}, 0},
		{`{"t\u0065xt":"\u00e9\ud83d\ude00\ud800x\"\\\/\b\f\n\r\t"}`, []string{"é😀\ufffdx\"\\/\b\f\n\r\t"}, 0},
		{`{"text":"\ud800\ud83d\ude00\udc00"}`, []string{"\ufffd😀\ufffd"}, 0},
		{"{\"text\":\"caf\xe9\xff\"}", []string{"caf\ufffd\ufffd"}, 0},
		{`{"text":"` + long + `"}`, []string{long}, 0},
	} {
		for range 2 { // the second time in parts
			if got, nulls, err := texts(strings.NewReader(c.in), TextKey); err != nil || nulls != c.nulls || !slices.Equal(got, c.want) {
				t.Errorf("%.80s: %q, %d nulls, %v; want %q, %d nulls", c.in, got, nulls, err, c.want, c.nulls)
			}
			setMaxPart(t, 64)
		}
	}
}

func TestRecordErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"txt":"b"}`, `line 1: the record has no "text"; its keys are "txt"`},
		{"{\"text\":\"a\"}\n{\"id\":\"7\",\"content\":\"long\",\"n\":1}", `line 2: the record has no "text"; its keys are "id", "content", "n"`},
		{`{"id":7,"messages":[{"text":"b"}]}`, `no other key holds a string; its keys are "id", "messages"`},
		{`{}`, `the record has no "text"; it is empty`},
		{`{"Text":"a"}`, `its keys are "Text"`},
		{`{"text":["a"]}`, `"text": message 0 is not an object`},
		{`{"text":7}`, `"text" is a number, want a string`},
		{`{"text":"a","text":"b"}`, `a record has "text" twice`},
		{`7`, `a record is a number, want an object with "text", or a string`},
		{`[["a"]]`, `a record is a list`},
		{"{\"text\":\"a\"}\n{\"text\":", "line 2: unexpected end of file"},
		{`{"text":"a`, "unexpected end of file"},
		{`{"text":"a"`, "unexpected end of file"},
		{`["a"`, "unexpected end of file"},
		{`["a" "b"]`, "'\"', want , or ]"},
		{`{"text" "b"}`, `'"', want : after key "text"`},
		{`{text:"b"}`, "'t', want a quoted key"},
		{`{"text":"a",}`, "'}', want a quoted key"},
		{`{"text":"a"} {"text":"b"}`, "after the end of a record"},
		{"{\"text\":\"a\nb\"}", "control character '\\n'"},
		{`{"text":"\x"}`, `\x is not a JSON escape`},
		{`{"text":"\u12g4"}`, "is not a JSON escape"},
		{`{"n":nul,"text":"a"}`, `"nul" is not a JSON value`},
		{`{"n":1.,"text":"a"}`, `"1." is not a JSON value`},
		{`{"n":nan,"text":"a"}`, `"nan" is not a JSON value`},
		{`{"n":` + strings.Repeat("9", maxToken+1) + `}`, "a number of more than"},
		{`{"` + strings.Repeat("k", maxToken+1) + `":1}`, "a key of more than"},
		{`{"n":` + strings.Repeat("[", 2000), "more than 1000 deep"},
	} {
		_, _, err := texts(strings.NewReader(c.in), TextKey)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: got error %v, want one line with %q", c.in, err, c.want)
		}
	}
}

func TestTextKey(t *testing.T) {
	in := `{"text":1,"content":"a"}`
	if got, _, err := texts(strings.NewReader(in), "content"); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// Records that are accepted have the values that encoding/json reads, in whatever pieces they arrive.
func FuzzRecords(f *testing.F) {
	for _, s := range []string{
		"{\"text\":\"a\"}\n{\"text\":\"\\ud83d\\ude00 caf\xe9\"}\n", `["a",{"text":null},{"n":[1e5,{}],"text":"b"}]`, `{"text":"x","n":NaN}`,
		`{"text":"\u00`, `[`, `"\\"`, "{\"text\":\"\xf0\x9f\x98\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := texts(strings.NewReader(string(data)), TextKey)
		again, _, againErr := texts(iotest.OneByteReader(strings.NewReader(string(data))), TextKey)
		if !slices.Equal(got, again) || (err == nil) != (againErr == nil) {
			t.Fatalf("%q, %v; byte by byte %q, %v", got, err, again, againErr)
		}
		if err != nil || strings.Contains(string(data), "NaN") || strings.Contains(string(data), "Infinity") {
			return
		}
		var want []string
		add := func(v any) {
			if record, ok := v.(map[string]any); ok {
				v = record[TextKey]
			}
			if s, ok := v.(string); ok && s != "" {
				want = append(want, s)
			}
		}
		for d := json.NewDecoder(strings.NewReader(string(data))); ; {
			var v any
			if err := d.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%q is read, but %v", data, err)
			}
			if list, ok := v.([]any); ok {
				for _, v := range list {
					add(v)
				}
			} else {
				add(v)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}
