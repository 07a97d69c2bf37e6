package checkpoints

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// oneTensor returns a tensor of a dtype over data, in memory.
func oneTensor(t *testing.T, d DType, data []byte) *Tensor {
	t.Helper()
	s := Spec{"t", d, []int{len(data) / d.Size()}}
	head, err := encodeHeader([]Spec{s}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := append(head, data...)
	c, err := Read("memory", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	tensor, _ := c.Tensor("t")
	return tensor
}

// TestFloat32 reads more than one chunk, into reused memory that starts out as NaN.
func TestFloat32(t *testing.T) {
	want := make([]float32, chunkBytes/2+77)
	for i := range want {
		want[i] = float32(i%512 - 256)
	}
	for _, d := range []DType{F64, F32, F16, F32, BF16} {
		data := make([]byte, len(want)*d.Size())
		if err := EncodeFloats(data, want, d); err != nil {
			t.Fatal(err)
		}
		dst := slices.Repeat([]float32{float32(math.NaN())}, len(want)+5)
		got, err := oneTensor(t, d, data).Float32(dst)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: values differ", d)
		}
		if &got[0] != &dst[0] {
			t.Errorf("%v: the memory was not reused", d)
		}
	}
}

func TestInt64(t *testing.T) {
	le := binary.LittleEndian
	tests := []struct {
		dtype DType
		data  []byte
		want  []int64
	}{
		{I8, []byte{0x80, 0x7f}, []int64{-128, 127}},
		{U8, []byte{0x80, 0x7f}, []int64{128, 127}},
		{I16, le.AppendUint16(nil, 0x8001), []int64{-32767}},
		{U16, le.AppendUint16(nil, 0x8001), []int64{32769}},
		{I32, le.AppendUint32(nil, 0xfffffffe), []int64{-2}},
		{U32, le.AppendUint32(nil, 0xfffffffe), []int64{4294967294}},
		{I64, le.AppendUint64(nil, 1<<63), []int64{math.MinInt64}},
		{U64, le.AppendUint64(nil, 1<<63-1), []int64{math.MaxInt64}},
	}
	for _, test := range tests {
		got, err := oneTensor(t, test.dtype, test.data).Int64()
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v: %v (%v), want %v", test.dtype, got, err, test.want)
		}
	}
	_, err := oneTensor(t, U64, le.AppendUint64(nil, 1<<63)).Int64()
	wantError(t, err, `tensor "t": element 0 is 9223372036854775808`)
}

func TestWrongDType(t *testing.T) {
	_, err := oneTensor(t, I64, make([]byte, 8)).Float32(nil)
	wantError(t, err, `memory: tensor "t" is I64; want a float tensor`)
	_, err = oneTensor(t, F8E4M3, make([]byte, 8)).Float32(nil)
	wantError(t, err, `tensor "t" is F8_E4M3`)
	_, err = oneTensor(t, BF16, make([]byte, 8)).Int64()
	wantError(t, err, `memory: tensor "t" is BF16; want an integer tensor`)
}

func TestOpenTensor(t *testing.T) {
	data := []byte("abcdefgh")
	tensor := oneTensor(t, F8E5M2, data)
	got, err := io.ReadAll(tensor.Open())
	if err != nil || !bytes.Equal(got, data) || tensor.Bytes() != 8 {
		t.Errorf("bytes %q (%v), want %q", got, err, data)
	}
}

// TestFileShrinks cuts a file after it was opened.
func TestFileShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), weightsFile)
	if err := os.WriteFile(path, raw(`{"a":`+entry+`}`, 16), 0o666); err != nil {
		t.Fatal(err)
	}
	tensor, _ := mustOpen(t, path).Tensor("a")
	if err := os.Truncate(path, 70); err != nil {
		t.Fatal(err)
	}
	_, err := tensor.Float32(nil)
	wantError(t, err, path, `tensor "a": the file ends inside it`)
	_, err = tensor.WriteTo(io.Discard)
	wantError(t, err, path, `tensor "a": the file ends inside it`)
}

// TestFileReplaced renames another file over one that is open: the tensor must stay
// the one that was opened.
func TestFileReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), weightsFile)
	file := raw(`{"a":`+entry+`}`, 16)
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	tensor, _ := mustOpen(t, path).Tensor("a")
	if err := WriteFileAtomic(path, bytes.Repeat([]byte{1}, len(file)), 0o666); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tensor.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), make([]byte, 16)) {
		t.Errorf("read %v: %v", b.Bytes(), err)
	}
}

func TestReadAfterClose(t *testing.T) {
	c, err := Open(sampleDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	tensor, _ := c.Tensor("model.norm.weight")
	_, err = tensor.Float32(nil)
	wantError(t, err, `tensor "model.norm.weight"`, "closed")
}
