package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// field are data sets as pyarrow wrote them.
const field = "testdata/dataset-folder"

// jsonLines returns the texts of rows as records.
func jsonLines(t *testing.T, rows []any) string {
	t.Helper()
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, row := range rows {
		if err := out.Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// separated returns the texts of rows as the second column of a table.
func separated(t *testing.T, separator rune, rows []any) string {
	t.Helper()
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	out.Comma = separator
	all := [][]string{{"number", "text"}}
	for i, row := range rows {
		all = append(all, []string{strconv.Itoa(i), reflect.ValueOf(row).Field(0).String()})
	}
	if err := out.WriteAll(all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packed(t *testing.T, text string) string {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(z.EncodeAll([]byte(text), nil))
}

// tokensOf returns the tokens of a corpus.
func tokensOf(t *testing.T, path string, e *encoder) []int32 {
	t.Helper()
	c, err := openCorpus(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.Tokens(t.Context(), e, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// The same rows have the same tokens in every format.
func TestFormats(t *testing.T) {
	e := &encoder{tok: loadGopher(t)}
	var rows, nulls []any
	for _, part := range []string{"parquet/data/train-00000-of-00002.parquet", "parquet/data/train-00001-of-00002.parquet"} {
		type row struct {
			Text string `parquet:"text,optional" json:"text"`
		}
		read, err := parquet.ReadFile[row](filepath.Join(field, part))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range read {
			rows = append(rows, r)
		}
	}
	nulls = append(slices.Clone(rows), map[string]any{"text": nil, "more": []int{1}})
	text := jsonLines(t, rows)
	root := tree(t, map[string]string{
		"d.csv": separated(t, ',', rows), "e.tsv.zst": packed(t, "\ufeff"+separated(t, '\t', rows)),
		"a.jsonl": text, "b.jsonl.gz": jsonLines(t, nulls), "c.jsonl.zst": packed(t, text), "array.json": "[" + strings.ReplaceAll(strings.TrimSpace(text), "\n", ",") + "]",
	})
	want := tokensOf(t, filepath.Join(root, "a.jsonl"), e)
	if len(want) < 10000 {
		t.Fatalf("only %d tokens", len(want))
	}
	for _, path := range []string{
		filepath.Join(root, "d.csv"), filepath.Join(root, "e.tsv.zst"), filepath.Join(root, "b.jsonl.gz"), filepath.Join(root, "c.jsonl.zst"), filepath.Join(root, "array.json"), filepath.Join(root, "c.*"),
		filepath.Join(field, "parquet"), filepath.Join(field, "parquet/data"), filepath.Join(field, "parquet/**/*.parquet"),
		filepath.Join(field, "parquet/data/train-0000[01]*"), filepath.Join(field, "parquet-zstd/data.parquet"), filepath.Join(field, "parquet-zst*"),
	} {
		log := logged(t)
		if got := tokensOf(t, path, e); !slices.Equal(got, want) {
			t.Errorf("%s: %d tokens, want %d", path, len(got), len(want))
		}
		if has := strings.Contains(log.String(), "records=1"); has != (strings.Contains(path, "b.jsonl") || strings.Contains(path, "parquet")) {
			t.Errorf("%s: the log is %s", path, log)
		}
	}
	if _, err := openCorpus(t.Context(), filepath.Join(root, "*.none"), ""); err == nil || !strings.Contains(err.Error(), "no file or folder matches") {
		t.Errorf("error %v", err)
	}
}

func TestSplits(t *testing.T) {
	log := logged(t)
	root := tree(t, map[string]string{"data/train-0.jsonl": `"a"`, "data/train-1.jsonl": `"b"`, "data/test-0.jsonl": `"c"`, "contest/x.jsonl": `"d"`})
	c, err := openCorpus(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := documents(c); err != nil || len(docs) != 4 || !strings.Contains(log.String(), `splits="test, train"`) {
		t.Errorf("%q, %v, %s", docs, err, log)
	}
}

// Rows that cannot be used are skipped, counted and named, up to a limit.
func TestBadRows(t *testing.T) {
	good := `{"text":"good"}` + "\n"
	for name, bad := range map[string]string{
		`line 2: the record has no "text"; its keys are "content"`: `{"content":"x"}`,
		`line 2: "text" is a number, want a string`:                `{"text":7,"more":"x"}`,
		`line 2: a record is a list`:                               `[["x"]]`,
		`line 2: 'x', want : after key "text"`:                     `{"text" x}`,
		`line 2: unexpected end of file in a record`:               `{"text":"never ends`,
		`line 2: control character '\t' in a string`:               "{\"text\":\"a\tb\"}",
		`line 2: '{' after the end of a record`:                    `{"text":"good"} {"text":"x"}`,
		`line 2: "nul" is not a JSON value`:                        `{"n":nul,"text":"x"}`,
	} {
		t.Run(bad, func(t *testing.T) {
			rows, want := good+bad+"\n"+good+good, []string{"good", "good", "good"}
			switch {
			case strings.Contains(name, "end of file"):
				rows, want = good+bad, want[:1]
			case strings.Contains(name, "after the end"):
				want = append(want, "good")
			}
			path := filepath.Join(tree(t, map[string]string{"a.jsonl": rows}), "a.jsonl")
			wanted := tokensOf(t, filepath.Join(tree(t, map[string]string{"b.txt": strings.Join(want, separator)}), "b.txt"), &encoder{tok: loadGopher(t)})
			log := logged(t)
			if got := tokensOf(t, path, &encoder{tok: loadGopher(t)}); !slices.Equal(got, wanted) {
				t.Errorf("%v, want %v", got, wanted)
			}
			said := strings.ReplaceAll(log.String(), `\"`, `"`)
			name := strings.ReplaceAll(name, `\t`, `\\t`)
			if !strings.Contains(said, "rows=1") || !strings.Contains(said, name[len("line 2: "):]) || !strings.Contains(said, "a.jsonl: line 2: ") {
				t.Errorf("the log is %s", said)
			}
		})
	}
}

func TestBadRowLimit(t *testing.T) {
	bad := `{"txt":"x"}` + "\n"
	for _, c := range []struct {
		rows  string
		limit int
		want  string
	}{
		{`"a"` + "\n" + strings.Repeat(bad, 3), 3, ""},
		{`"a"` + "\n" + strings.Repeat(bad, 4), 3, `more than 3 rows cannot be used, the limit (bad_rows of a recipe), such as `},
		{`"a"` + "\n" + bad, -1, `a.jsonl: line 2: the record has no "text"; its keys are "txt"`},
		{bad + bad, 3, `none of its rows can be used (2), such as `},
		{`"a"` + "\n" + strings.Repeat(bad, 100), 0, ""},
		{`"a"` + "\n" + strings.Repeat(bad, 101), 0, "more than 100 rows"},
	} {
		path := filepath.Join(tree(t, map[string]string{"a.jsonl": c.rows}), "a.jsonl")
		corpus, err := openCorpus(t.Context(), path, "")
		if err != nil {
			t.Fatal(err)
		}
		corpus.badRows = c.limit
		_, err = corpus.Tokens(t.Context(), &encoder{tok: loadGopher(t)}, 0)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("limit %d: %v, want %q", c.limit, err, c.want)
		}
	}
}

// A bad row may be longer than a part: what was read of its text stays.
func TestLongBadRow(t *testing.T) {
	setMaxPart(t, 64)
	text := strings.Repeat("x", 1000)
	docs := tokensOf(t, filepath.Join(tree(t, map[string]string{"a.jsonl": `{"text":"` + text + `",}` + "\n" + `{"text":"y"}`}), "a.jsonl"), &encoder{tok: loadGopher(t)})
	if want := tokensOf(t, filepath.Join(tree(t, map[string]string{"a.txt": text + separator + "y"}), "a.txt"), &encoder{tok: loadGopher(t)}); !slices.Equal(docs, want) {
		t.Errorf("%d tokens, want %d", len(docs), len(want))
	}
}
