package raw

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

type inner struct {
	Role    string   `parquet:"role" json:"role"`
	Content *string  `parquet:"content,optional" json:"content"`
	Tags    []string `parquet:"tags,list" json:"tags"`
}

type row struct {
	Text     *string   `parquet:"text,optional" json:"text"`
	N        int64     `parquet:"n" json:"n"`
	X        float64   `parquet:"x" json:"x"`
	OK       bool      `parquet:"ok" json:"ok"`
	Messages []inner   `parquet:"messages,list" json:"messages"`
	Ids      [][]int32 `parquet:"ids,list" json:"ids"`
	Score    *float32  `parquet:"score,optional" json:"score"`
}

// write writes a table to a file.
func write(t *testing.T, rows []row, options ...parquet.WriterOption) string {
	t.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, rows, options...); err != nil {
		t.Fatal(err)
	}
	return save(t, "a.parquet", b.Bytes())
}

func save(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func lines(t *testing.T, path string, columns ...string) []string {
	t.Helper()
	r, err := Open(path, columns)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func rows(n int) (all []row) {
	score := float32(0.1)
	for i := range n {
		text := strings.Repeat("a \"line\"\n\\ \x01é\t", i%5)
		r := row{N: int64(i) - 3, X: math.Pow(10, float64(i-10)), OK: i%2 == 0, Messages: []inner{}, Ids: [][]int32{}}
		if i%7 != 3 {
			r.Text = &text
		}
		if i%3 == 0 {
			r.Score = &score
		}
		for j := range i % 4 {
			m := inner{Role: string(rune('a' + j)), Tags: []string{}}
			if j != 1 {
				m.Content = &text
			}
			for k := range (i + j) % 3 {
				m.Tags = append(m.Tags, strings.Repeat("t", k))
			}
			ids := []int32{}
			for k := range j {
				ids = append(ids, int32(k))
			}
			r.Messages, r.Ids = append(r.Messages, m), append(r.Ids, ids)
		}
		all = append(all, r)
	}
	return all
}

// Rows have the values that encoding/json gives their Go values, in whatever groups and pages they were written.
func TestTable(t *testing.T) {
	all := rows(100)
	for _, options := range [][]parquet.WriterOption{
		nil,
		{parquet.MaxRowsPerRowGroup(7), parquet.PageBufferSize(64), parquet.Compression(&parquet.Zstd)},
		{parquet.DataPageVersion(1), parquet.Compression(&parquet.Snappy)},
	} {
		got := lines(t, write(t, all, options...))
		if len(got) != len(all) {
			t.Fatalf("%d rows, want %d", len(got), len(all))
		}
		for i := range all {
			want, err := json.Marshal(all[i])
			if err != nil || !sameJSON(t, got[i], string(want)) {
				t.Fatalf("row %d: %s\nwant %s", i, got[i], want)
			}
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	p, _ := json.Marshal(x) // maps are written in order of their keys
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

// Only the columns that are asked for are read, or all if there are none of them.
func TestTableColumns(t *testing.T) {
	path := write(t, rows(5))
	for _, c := range []struct {
		columns []string
		want    string
	}{
		{[]string{"n", "other"}, `{"n":-2}`},
		{[]string{"messages", "ok"}, `{"messages":[{"content":"a \"line\"\n\\ \u0001é\t","role":"a","tags":[""]}],"ok":false}`},
	} {
		if got := lines(t, path, c.columns...)[1]; !sameJSON(t, got, c.want) {
			t.Errorf("%q: %s, want %s", c.columns, got, c.want)
		}
	}
	if got := lines(t, path, "other")[1]; !strings.Contains(got, `"ids":[[]]`) || !strings.Contains(got, `"n":-2`) {
		t.Error(got)
	}
}

// A damaged table is an error, whatever byte is wrong.
func TestDamagedTable(t *testing.T) {
	whole, err := os.ReadFile(write(t, rows(20)))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 4, 11, len(whole) / 2} {
		if _, err := Open(save(t, "a.parquet", whole[:cut]), nil); err == nil {
			t.Errorf("%d of %d bytes are a table", cut, len(whole))
		}
	}
	for at := 4; at < len(whole)-4; at += 13 {
		bytes := append([]byte(nil), whole...)
		bytes[at] ^= 0x55
		r, err := Open(save(t, "a.parquet", bytes), nil)
		if err == nil { // it must end, in whatever way
			_, _ = io.Copy(io.Discard, r)
			_ = r.Close()
		}
	}
}

func TestUnpack(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := e.EncodeAll([]byte("text"), nil)
	for name, content := range map[string][]byte{"a.txt.zst": packed, "b.jsonl.zst": append(packed[:len(packed):len(packed)], packed...), "c.txt": []byte("text")} {
		want := "text"
		if name[0] == 'b' {
			want = "texttext" // frames follow one another
		}
		if got := lines(t, save(t, name, content)); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := Open(save(t, "a.txt.zst", []byte("text")), nil); err == nil || !strings.Contains(err.Error(), "is not zstd-compressed") {
		t.Errorf("error %v", err)
	}
	r, err := Open(save(t, "a.txt.zst", packed[:len(packed)-2]), nil)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if err == nil {
		t.Error("a part of a file is read")
	}
	for name, want := range map[string][2]string{"a.JSONL.zst": {".jsonl", ".zst"}, "a.gz": {"", ".gz"}, "a.b.txt": {".txt", ""}} {
		if _, ending := Unpacked(name); Kind(name) != want[0] || ending != want[1] {
			t.Errorf("%s: %q %q", name, Kind(name), ending)
		}
	}
}
