package golden

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"

	"gqa/checkpoints"
)

// Poison overwrites element i of a float tensor in a safetensors file with x, which may be NaN or infinite.
func Poison(t testing.TB, file, tensor string, i int, x float32) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, dtype, err := locate(data, tensor)
	if err != nil {
		t.Fatalf("%s: tensor %s: %v", file, tensor, err)
	}
	at := begin + i*dtype.Size()
	if err := checkpoints.EncodeFloats(data[at:at+dtype.Size()], []float32{x}, dtype); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// locate finds where in the bytes of a safetensors file a tensor begins.
func locate(data []byte, tensor string) (begin int, dtype checkpoints.DType, err error) {
	size := binary.LittleEndian.Uint64(data)
	header := map[string]json.RawMessage{}
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		return 0, 0, err
	}
	var entry struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(header[tensor], &entry); err != nil {
		return 0, 0, err
	}
	dtype, err = checkpoints.ParseDType(entry.DType)
	return 8 + int(size) + entry.Offsets[0], dtype, err
}
