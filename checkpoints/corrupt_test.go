package checkpoints

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// raw returns a file with this header and n bytes of data.
func raw(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// entry is a valid tensor of 4 floats at offset 0.
const entry = `{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}`

var corrupt = []struct {
	name string
	file []byte
	want string // part of the error
}{
	{"empty", nil, "the file has 0 bytes"},
	{"short", []byte{1, 2, 3, 4, 5, 6, 7}, "the file has 7 bytes"},
	{"no header", make([]byte, 8), "the header is not JSON: unexpected end"},
	{"length beyond file", append(raw(`{"a":`+entry+`}`, 0)[:8], "\x00{"...), "only 2 follow"},
	{"length of 2^63", []byte("\x00\x00\x00\x00\x00\x00\x00\x80{}"), "header length is 9223372036854775808"},
	{"not UTF-8", raw("{\"a\xff\":"+entry+"}", 16), "is not UTF-8"},
	{"not JSON", raw(`{"a":`+entry+`,}`, 16), "is not JSON"},
	{"not an object", raw(`["a"]`, 0), "has [, want {"},
	{"unfinished", raw(`{"a":`+entry, 16), "unexpected end"},
	{"two objects", raw(`{}{}`, 0), "extra data after the JSON object"},
	{"tensor twice", raw(`{"a":`+entry+`,"a":`+entry+`}`, 16), `has the key "a" twice`},
	{"tensor twice, escaped", raw(`{"a":`+entry+`,"\u0061":`+entry+`}`, 16), `has the key "a" twice`},
	{"dtype twice", raw(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `tensor "a": has the key "dtype" twice`},
	{"tensor is no object", raw(`{"a":1}`, 0), `tensor "a": has 1, want {`},
	{"unknown dtype", raw(`{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`, 4), `tensor "a": dtype is an unknown dtype "F31"`},
	{"dtype is a number", raw(`{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}`, 4), "has 32, want a string"},
	{"upper-case key", raw(`{"a":{"DTYPE":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "want the keys dtype, shape"},
	{"no shape", raw(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), "want the keys dtype, shape"},
	{"no offsets", raw(`{"a":{"dtype":"F32","shape":[1]}}`, 4), "want the keys dtype, shape"},
	{"shape is null", raw(`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}`, 4), "want ["},
	{"negative shape", raw(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), "shape has -1, want a size"},
	{"fractional shape", raw(`{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}`, 4), "shape has 1.0, want a size"},
	{"string in shape", raw(`{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}`, 4), "shape has 1, want a size"},
	{"shape of 2^63", raw(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4]}}`, 4), "want a size"},
	{"overflowing shape", raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "is too large"},
	{"overflowing bytes", raw(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}`, 0), "is too large"},
	{"bytes do not match", raw(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,16]}}`, 16), "hold 16 bytes, but F32 [2 3] takes 24"},
	{"one offset", raw(`{"a":{"dtype":"F32","shape":[],"data_offsets":[4]}}`, 4), "data_offsets are [4], want [begin, end]"},
	{"offsets reversed", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4), "data_offsets are [4 0], want [begin, end]"},
	{"negative offset", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 4), "data_offsets has -4"},
	{"offsets beyond file", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}}`, 4), "the file holds 4 bytes of data"},
	{"huge tensor", raw(`{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}`, 4), "the file holds 4 bytes of data"},
	{"overlap", raw(`{"a":`+entry+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20), `tensor "b" starts at byte 12 of the data, inside tensor "a", which ends at 16`},
	{"same place", raw(`{"a":`+entry+`,"b":`+entry+`}`, 16), `inside tensor "a"`},
	{"hole", raw(`{"a":`+entry+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[20,24]}}`, 24), `but tensor "a" ends at 16: the bytes between them belong to no tensor`},
	{"hole at the start", raw(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), "but the header ends at 0"},
	{"truncated", raw(`{"a":`+entry+`}`, 15), `tensor "a" ends at byte 16 of the data, but the file holds 15`},
	{"trailing bytes", raw(`{"a":`+entry+`}`, 17), `tensor "a" ends at byte 16 of the data, but the file holds 17 bytes of data`},
	{"data but no tensor", raw(`{}`, 3), "the header ends at byte 0 of the data, but the file holds 3 bytes of data"},
	{"metadata is a list", raw(`{"__metadata__":[]}`, 0), `"__metadata__" must map strings to strings`},
	{"metadata of numbers", raw(`{"__metadata__":{"n":1}}`, 0), `"__metadata__" must map strings to strings: it has 1`},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), `has the key "__metadata__" twice`},
	{"PyTorch zip", []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl"), "cannot read this PyTorch checkpoint: its zip directory"},
	{"PyTorch pickle", []byte("\x80\x02\x8a\x0alX\x00\x00\x00\x00"), "it is a pickle that torch.save did not write"},
	{"GGUF", []byte("GGUF\x03\x00\x00\x00\x00\x00\x00\x00"), "is a GGUF file"},
	{"Git LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs pull"},
	{"web page", []byte("<!DOCTYPE html><html>404</html>"), "is a web page"},
	{"text", []byte("Once upon a time — a model"), "is a text file"},
	{"short text", []byte("hi\n"), "is a text file"},
}

// TestCorruptFiles opens files that are each wrong in one way.
func TestCorruptFiles(t *testing.T) {
	for _, test := range corrupt {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), weightsFile)
			if err := os.WriteFile(path, test.file, 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			wantError(t, err, path, test.want)
		})
	}
}

// TestHeaderTooLong needs a reader that claims a large file.
func TestHeaderTooLong(t *testing.T) {
	start := binary.LittleEndian.AppendUint64(nil, maxHeader+1)
	_, err := Read("big", bytes.NewReader(start), 1<<40)
	wantError(t, err, "big", "header length is 100000001 bytes, more than the format's limit")
}

// TestTruncations cuts a file of the reference writer at many places, and lengthens it.
func TestTruncations(t *testing.T) {
	whole, err := os.ReadFile("testdata/llama/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += 1 + n/7 {
		_, err := Read("cut", bytes.NewReader(whole[:n]), int64(n))
		wantError(t, err, "cut: ")
	}
	_, err = Read("long", bytes.NewReader(append(whole, 0)), int64(len(whole))+1)
	wantError(t, err, "but the file holds 345345 bytes of data")
}

// TestOddButLegal opens files that the format allows but few writers produce.
func TestOddButLegal(t *testing.T) {
	file := raw(`{"z":{"shape":[3,0],"extra":[{}],"data_offsets":[8,8],"dtype":"F64"},`+
		`"scalar":{"dtype":"F32","shape":[],"data_offsets":[8,12]},`+
		`"":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}  `, 12)
	c, err := Read("odd", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Names(), ","); got != ",z,scalar" {
		t.Errorf("names are %q, want them by offset", got)
	}
	scalar, _ := c.Tensor("scalar")
	if values, err := scalar.Float32(nil); err != nil || len(values) != 1 {
		t.Errorf("scalar reads as %v: %v", values, err)
	}
	empty, _ := c.Tensor("z")
	if values, err := empty.Float32(nil); err != nil || len(values) != 0 || empty.Elements() != 0 {
		t.Errorf("empty tensor reads as %v: %v", values, err)
	}
}
