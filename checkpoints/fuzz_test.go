package checkpoints

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gqa/internal/alloc"
)

// encoded returns the file that Write produces for c.
func encoded(t *testing.T, c *Checkpoint) []byte {
	t.Helper()
	shards, err := split(specs(c), 0)
	if err != nil {
		t.Fatal(err)
	}
	head, err := encodeHeader(shards[0], c.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	b := &memory{}
	if err := encode(b, head, shards[0], copier(c)); err != nil {
		t.Fatal(err)
	}
	return b.bytes
}

// same fails the test unless a and b hold the same tensors and metadata; the order is
// free.
func same(t *testing.T, a, b *Checkpoint) {
	t.Helper()
	if !maps.Equal(a.Metadata, b.Metadata) {
		t.Fatalf("metadata %q, then %q", a.Metadata, b.Metadata)
	}
	if len(a.Names()) != len(b.Names()) {
		t.Fatalf("tensors %q, then %q", a.Names(), b.Names())
	}
	for _, name := range a.Names() {
		x, _ := a.Tensor(name)
		y, ok := b.Tensor(name)
		if !ok || !reflect.DeepEqual(x.Spec(), y.Spec()) {
			t.Fatalf("tensor %+v, then %+v", x, y)
		}
		dataX, errX := io.ReadAll(x.Open())
		dataY, errY := io.ReadAll(y.Open())
		if errX != nil || errY != nil || !bytes.Equal(dataX, dataY) {
			t.Fatalf("data of %q changed: %v, %v", name, errX, errY)
		}
	}
}

// FuzzHeader reads any bytes as a file: a clean error, or a checkpoint whose tensors
// lie inside the file, and which comes back the same from being written; written
// again, its bytes no longer change.
func FuzzHeader(f *testing.F) {
	for _, test := range corrupt {
		f.Add(test.file)
	}
	f.Add(raw(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},"a":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}`, 12))
	f.Fuzz(func(t *testing.T, file []byte) {
		var c *Checkpoint
		var err error
		if n := alloc.Bytes(func() { c, err = Read("fuzz", bytes.NewReader(file), int64(len(file))) }); n > 1<<20+100*len(file) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(file))
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz: ") {
				t.Fatalf("error %q does not name the file", err)
			}
			return
		}
		once := encoded(t, c)
		again, err := Read("once", bytes.NewReader(once), int64(len(once)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, c, again)
		if twice := encoded(t, again); !bytes.Equal(once, twice) {
			t.Fatalf("written once %q, twice %q", once, twice)
		}
	})
}

// FuzzIndex parses any bytes as an index: a clean error, or file names that stay in the
// folder, and the same map from being written and parsed.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(twoShards))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{}, "weight_map":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var shards map[string]string
		var err error
		if n := alloc.Bytes(func() { shards, err = parseIndex(text) }); n > 1<<20+100*len(text) {
			t.Fatalf("%d bytes allocated for an index of %d", n, len(text))
		}
		if err != nil {
			return
		}
		for tensor, file := range shards {
			if file != filepath.Base(file) || !filepath.IsLocal(file) || !utf8.ValidString(tensor) {
				t.Fatalf("tensor %q may lie in %q", tensor, file)
			}
		}
		written, err := json.Marshal(map[string]any{"weight_map": shards})
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndex(written)
		if err != nil || !maps.Equal(shards, again) {
			t.Fatalf("map %q, then %q: %v", shards, again, err)
		}
	})
}

// fuzzSpecs makes specs of any bytes: per tensor a dtype, the length of a name, up to
// three small dimensions, and the name.
func fuzzSpecs(b []byte) []Spec {
	var specs []Spec
	for len(b) > 3 {
		s := Spec{DType: DType(b[0])%U64 + 1, Shape: []int{}}
		for dims := b[1] >> 2; dims > 0 && len(s.Shape) < 3; dims >>= 2 {
			s.Shape = append(s.Shape, int(dims&3))
		}
		n := min(int(b[2]), len(b)-3)
		s.Name = string(b[3 : 3+n])
		b = b[3+n:]
		specs = append(specs, s)
	}
	return specs
}

// FuzzRoundTrip writes tensors of any names, dtypes and shapes in shards of any size: a
// clean error and no file, or the same tensors when opened.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x01\x14\x01a\x0c\xff\x02bc\x08\x00\x00"), int64(0))
	f.Add([]byte("\x01\x14\x01a\x0c\xff\x02bc\x08\x00\x00"), int64(8))
	f.Add([]byte("\x01\x14\x01a\x01\x14\x01a"), int64(0))
	f.Add([]byte("\x01\x14\x02\xff\xff\x03\x03\x0c__metadata__"), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		wanted := fuzzSpecs(b[:min(len(b), 200)])
		dir := t.TempDir()
		data := map[string][]byte{}
		err := Write(dir, wanted, WriteOptions{ShardSize: size}, func(s Spec, w io.Writer) error {
			data[s.Name] = bytes.Repeat([]byte(s.Name+"."), int(s.Bytes()))[:s.Bytes()]
			_, err := w.Write(data[s.Name])
			return err
		})
		if err != nil {
			if names, _ := readNames(dir); len(names) != 0 {
				t.Fatalf("error %v, but %q stayed", err, names)
			}
			return
		}
		c := mustOpen(t, dir)
		if len(c.Names()) != len(wanted) {
			t.Fatalf("wrote %v, read %q", wanted, c.Names())
		}
		for _, s := range wanted {
			tensor, ok := c.Tensor(s.Name)
			if !ok || tensor.DType != s.DType || !slices.Equal(tensor.Shape, s.Shape) {
				t.Fatalf("wrote %+v, read %+v", s, tensor)
			}
			if got, err := io.ReadAll(tensor.Open()); err != nil || !bytes.Equal(got, data[s.Name]) {
				t.Fatalf("data of %q changed: %v", s.Name, err)
			}
		}
	})
}
