package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRewriteEqualsReference rewrites files of the reference writer: the bytes must be
// the same.
func TestRewriteEqualsReference(t *testing.T) {
	for _, path := range []string{
		"testdata/llama/model.safetensors",
		"sample/gopher-4m/model.safetensors",
		"sample/gopher-4m/reference.safetensors", // two dtypes, no metadata
	} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			rewrite(t, mustOpen(t, path), dir, 0)
			got, want := readFile(t, filepath.Join(dir, weightsFile)), readFile(t, path)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes differ from the reference writer's %d", len(got), len(want))
			}
		})
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestShardsBothWays splits a checkpoint and joins it again.
func TestShardsBothWays(t *testing.T) {
	whole := mustOpen(t, "testdata/llama")
	for _, test := range []struct {
		size  int64
		files int
	}{{1, 21}, {40_000, 12}, {100_000, 4}, {345_343, 2}, {345_344, 1}, {0, 1}} {
		t.Run(fmt.Sprint(test.size), func(t *testing.T) {
			dir := t.TempDir()
			rewrite(t, whole, dir, test.size)
			split := mustOpen(t, dir)
			if len(split.Files) != test.files || split.Metadata["format"] != "pt" {
				t.Errorf("%d files with metadata %v, want %d", len(split.Files), split.Metadata, test.files)
			}
			joined := t.TempDir()
			err := Write(joined, specs(whole), WriteOptions{}, copier(split))
			if err != nil {
				t.Fatal(err)
			}
			want := readFile(t, filepath.Join(whole.Dir, weightsFile))
			if !bytes.Equal(readFile(t, filepath.Join(joined, weightsFile)), want) {
				t.Error("the joined file differs from the original")
			}
		})
	}
}

// TestSplit checks that tensors of given sizes are split into files as in transformers.
func TestSplit(t *testing.T) {
	tests := []struct {
		sizes []int
		limit int64
		want  string
	}{
		{[]int{3, 3, 3}, 0, "012"},
		{[]int{3, 3, 3}, 9, "012"},
		{[]int{3, 3, 3}, 8, "01|2"},
		{[]int{3, 3, 3}, 3, "0|1|2"},
		{[]int{1, 9, 1}, 4, "1|02"}, // the large one alone, the others go on together
		{[]int{9, 1}, 4, "0|1"},
		{[]int{1, 9}, 4, "1|0"},
		{[]int{0, 4, 0}, 4, "012"},
		{nil, 4, ""},
	}
	for _, test := range tests {
		var specs []Spec
		for i, size := range test.sizes {
			specs = append(specs, Spec{fmt.Sprint(i), U8, []int{size}})
		}
		shards, err := split(specs, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, shard := range shards {
			part := ""
			for _, s := range shard {
				part += s.Name
			}
			parts = append(parts, part)
		}
		if got := strings.Join(parts, "|"); got != test.want {
			t.Errorf("%v by %d: %s, want %s", test.sizes, test.limit, got, test.want)
		}
	}
}

// TestHeaderBytes holds the header to the bytes that the reference writer makes: order
// by dtype and name, escapes, padding.
func TestHeaderBytes(t *testing.T) {
	specs := []Spec{
		{"b", Bool, []int{1}},
		{"i16", I16, []int{1}},
		{"bf", BF16, []int{2, 1}},
		{"f", F32, nil},
		{"u64", U64, []int{1}},
		{"i64", I64, []int{0}},
		{"d", F64, []int{1}},
		{"a\"\\\n\x01é<", F32, []int{1}},
	}
	shards, err := split(specs, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := encodeHeader(shards[0], map[string]string{"format": "pt", "a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"__metadata__":{"a":"b","format":"pt"},` +
		`"u64":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},` +
		`"i64":{"dtype":"I64","shape":[0],"data_offsets":[8,8]},` +
		`"d":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},` +
		`"a\"\\\n\u0001é<":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},` +
		`"f":{"dtype":"F32","shape":[],"data_offsets":[20,24]},` +
		`"bf":{"dtype":"BF16","shape":[2,1],"data_offsets":[24,28]},` +
		`"i16":{"dtype":"I16","shape":[1],"data_offsets":[28,30]},` +
		`"b":{"dtype":"BOOL","shape":[1],"data_offsets":[30,31]}}`
	want += strings.Repeat(" ", -len(want)&7)
	if string(got[8:]) != want || !bytes.Equal(got[:8], []byte{byte(len(want)), byte(len(want) >> 8), 0, 0, 0, 0, 0, 0}) {
		t.Errorf("header\n%q, want\n%q", got, want)
	}
	empty, err := encodeHeader(nil, nil)
	if err != nil || string(empty) != "\x08\x00\x00\x00\x00\x00\x00\x00{}      " {
		t.Errorf("empty header is %q: %v", empty, err)
	}
}

func TestIndexText(t *testing.T) {
	dir := t.TempDir()
	specs := []Spec{{"b<1>", F32, []int{2}}, {"a", BF16, []int{3}}}
	if err := Write(dir, specs, WriteOptions{ShardSize: 8}, zeros); err != nil {
		t.Fatal(err)
	}
	want := `{
  "metadata": {
    "total_parameters": 5,
    "total_size": 14
  },
  "weight_map": {
    "a": "model-00002-of-00002.safetensors",
    "b<1>": "model-00001-of-00002.safetensors"
  }
}
`
	if got := string(readFile(t, filepath.Join(dir, indexFile))); got != want {
		t.Errorf("index\n%s, want\n%s", got, want)
	}
}

func zeros(s Spec, w io.Writer) error {
	_, err := w.Write(make([]byte, s.Bytes()))
	return err
}

// failSecond returns a source of data that fails at tensor b.
func failSecond(s Spec, w io.Writer) error {
	if s.Name == "b" {
		return errFull
	}
	return zeros(s, w)
}

func TestWriteErrors(t *testing.T) {
	one := []Spec{{"a", F32, []int{2}}}
	bytes := func(n int) func(Spec, io.Writer) error {
		return func(_ Spec, w io.Writer) error {
			_, err := w.Write(make([]byte, n))
			return err
		}
	}
	tests := []struct {
		name  string
		specs []Spec
		data  func(Spec, io.Writer) error
		want  string
	}{
		{"too few bytes", one, bytes(7), `tensor "a": 7 bytes were written, want 8 (F32 [2])`},
		{"too many bytes", one, bytes(9), `tensor "a": more than its 8 bytes (F32 [2]) were written`},
		{"too many, copied", one, func(_ Spec, w io.Writer) error {
			_, err := io.Copy(w, strings.NewReader("nine bytes"))
			return err
		}, `tensor "a": more than its 8 bytes`},
		{"source fails", one, func(Spec, io.Writer) error { return errors.New("no data") }, "no data"},
		{"second of two fails", append(one, Spec{"b", F32, []int{1}}), bytes(8), `tensor "b": more than its 4 bytes`},
		{"name twice", append(one, one...), zeros, `tensor "a": is listed twice`},
		{"metadata for a name", []Spec{{"__metadata__", F32, nil}}, zeros, `tensor "__metadata__": safetensors does not allow`},
		{"name is not UTF-8", []Spec{{"\xff", F32, nil}}, zeros, `tensor "\xff": safetensors does not allow`},
		{"no dtype", []Spec{{"a", 0, nil}}, zeros, `tensor "a": has no known dtype`},
		{"negative shape", []Spec{{"a", F32, []int{-1}}}, zeros, `tensor "a": shape [-1] of F32 is negative`},
		{"overflow", []Spec{{"a", F32, []int{1 << 62}}}, zeros, "too large"},
		{"sum overflows", []Spec{{"a", U8, []int{1 << 62}}, {"b", U8, []int{1 << 62}}}, zeros, `tensor "b": ends beyond`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int64{0, 8} {
				if size > 0 && test.name == "sum overflows" {
					continue // in files of their own they fit
				}
				dir := t.TempDir()
				wantError(t, Write(dir, test.specs, WriteOptions{ShardSize: size}, test.data), test.want)
				if names, _ := readNames(dir); len(names) != 0 {
					t.Errorf("shard size %d: %v stayed", size, names)
				}
			}
		})
	}
}

// TestWriteKeepsOthers checks that a folder with weights is rejected and left unchanged.
func TestWriteKeepsOthers(t *testing.T) {
	for _, name := range []string{weightsFile, "model-00001-of-00009.safetensors", indexFile} {
		dir := folder(t, map[string]string{name: "mine"})
		err := Write(dir, nil, WriteOptions{}, zeros)
		wantError(t, err, dir, "already holds "+name)
		if names, _ := readNames(dir); !slices.Equal(names, []string{name}) || string(readFile(t, filepath.Join(dir, name))) != "mine" {
			t.Errorf("the folder holds %v afterwards", names)
		}
	}
}

// fullDisk takes left bytes, then fails.
type fullDisk struct{ left int }

var errFull = errors.New("no space left on device")

func (d *fullDisk) WriteAt(b []byte, _ int64) (int, error) {
	n := min(len(b), d.left)
	d.left -= n
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

// TestDiskFull lets the disk run full after each number of bytes in turn.
func TestDiskFull(t *testing.T) {
	c := mustOpen(t, "testdata/llama")
	head, err := encodeHeader(specs(c), c.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	whole := len(readFile(t, "testdata/llama/model.safetensors"))
	for n := 0; n < whole; n += 1 + n/3 {
		if err := encode(&fullDisk{n}, head, specs(c), copier(c)); !errors.Is(err, errFull) {
			t.Errorf("full after %d of %d bytes: error %v", n, whole, err)
		}
	}
	if err := encode(&fullDisk{whole}, head, specs(c), copier(c)); err != nil {
		t.Errorf("room for all %d bytes: %v", whole, err)
	}
}

// TestIndexIsJSON makes names that need escapes and reads the index back.
func TestIndexIsJSON(t *testing.T) {
	dir := t.TempDir()
	name := "a\"\\\u2028\x00&"
	if err := Write(dir, []Spec{{name, U8, []int{1}}, {"b", U8, []int{1}}}, WriteOptions{ShardSize: 1}, zeros); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(readFile(t, filepath.Join(dir, indexFile))) {
		t.Error("the index is not JSON")
	}
	if _, ok := mustOpen(t, dir).Tensor(name); !ok {
		t.Errorf("tensor %q was lost", name)
	}
}

// TestWorkers writes shards by several goroutines: the same bytes, and after an error nothing.
func TestWorkers(t *testing.T) {
	c := mustOpen(t, sampleDir)
	one, many := t.TempDir(), t.TempDir()
	const size = 2 << 20
	rewrite(t, c, one, size)
	if err := Write(many, specs(c), WriteOptions{ShardSize: size, Metadata: c.Metadata, Workers: 3}, copier(c)); err != nil {
		t.Fatal(err)
	}
	names, err := readNames(one)
	if err != nil || len(names) < 5 {
		t.Fatalf("only %v to compare: %v", names, err)
	}
	for _, name := range names {
		if !bytes.Equal(readFile(t, filepath.Join(one, name)), readFile(t, filepath.Join(many, name))) {
			t.Errorf("%s differs", name)
		}
	}
	broken := t.TempDir()
	err = Write(broken, specs(c), WriteOptions{ShardSize: size, Workers: 3}, func(s Spec, w io.Writer) error {
		if strings.HasSuffix(s.Name, "layers.3.mlp.up_proj.weight") {
			return errFull
		}
		return copier(c)(s, w)
	})
	if left, _ := readNames(broken); !errors.Is(err, errFull) || len(left) > 0 {
		t.Errorf("error %v, and %v stayed", err, left)
	}
}

// TestFloat32Range reads parts of a tensor, and rejects invalid ranges.
func TestFloat32Range(t *testing.T) {
	tensor := oneTensor(t, BF16, []byte{0, 0, 0x80, 0x3f, 0, 0x40, 0x40, 0x40})
	got := make([]float32, 2)
	if err := tensor.Float32Range(got, 1); err != nil || got[0] != 1 || got[1] != 2 {
		t.Errorf("%v (%v), want [1 2]", got, err)
	}
	for _, at := range []int{-1, 3, 1 << 62} {
		wantError(t, tensor.Float32Range(got, at), `tensor "t": 4 bytes from`, "it has 8")
	}
}

// TestCopy copies parts of a tensor from a file and from memory, between bytes written directly.
func TestCopy(t *testing.T) {
	data := make([]byte, 3*chunkBytes)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	s := Spec{"t", U8, []int{len(data)}}
	dir := t.TempDir()
	if err := Write(dir, []Spec{s}, WriteOptions{}, func(_ Spec, w io.Writer) error {
		_, err := w.Write(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	inFile, _ := mustOpen(t, dir).Tensor("t")
	for name, src := range map[string]*Tensor{"file": inFile, "memory": oneTensor(t, U8, data)} {
		out := t.TempDir()
		err := Write(out, []Spec{s}, WriteOptions{}, func(_ Spec, w io.Writer) error {
			if err := src.WriteRange(w, 7, chunkBytes+1); err != nil {
				return err
			}
			if _, err := w.Write(data[:5]); err != nil {
				return err
			}
			return src.WriteRange(w, 0, 2*chunkBytes-6)
		})
		if err != nil {
			t.Fatal(err)
		}
		copied, _ := mustOpen(t, out).Tensor("t")
		got, err := io.ReadAll(copied.Open())
		want := slices.Concat(data[7:chunkBytes+8], data[:5], data[:2*chunkBytes-6])
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: copied wrongly (%v)", name, err)
		}
		err = Write(t.TempDir(), []Spec{s}, WriteOptions{}, func(_ Spec, w io.Writer) error {
			return src.WriteRange(w, 1, int64(len(data)))
		})
		wantError(t, err, fmt.Sprintf("%d bytes from offset 1 requested, but it has %d", len(data), len(data)))
	}
}

// TestWriteBeyondF16: a number out of range for F16 is an error that names the tensor, not an infinity.
func TestWriteBeyondF16(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	err := Write(dir, []Spec{{Name: "w", DType: F16, Shape: []int{1}}}, WriteOptions{}, func(_ Spec, w io.Writer) error {
		b := make([]byte, 2)
		if err := EncodeFloats(b, []float32{-1e5}, F16); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	})
	wantError(t, err, `tensor "w" holds -100000, and the largest F16 is 65504; write BF16 or F32`)
}
