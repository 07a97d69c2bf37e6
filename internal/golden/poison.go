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
	size := binary.LittleEndian.Uint64(data)
	header := map[string]json.RawMessage{}
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	var entry struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(header[tensor], &entry); err != nil {
		t.Fatalf("%s: tensor %s: %v", file, tensor, err)
	}
	dtype, err := checkpoints.ParseDType(entry.DType)
	if err != nil {
		t.Fatalf("%s: tensor %s: %v", file, tensor, err)
	}
	at := 8 + int(size) + entry.Offsets[0] + i*dtype.Size()
	if err := checkpoints.EncodeFloats(data[at:at+dtype.Size()], []float32{x}, dtype); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
