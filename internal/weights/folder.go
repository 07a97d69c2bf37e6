package weights

import (
	"bytes"
	"encoding/json"
	"fmt"

	"gqa/checkpoints"
)

// RewriteConfig changes keys of a config.json. Numbers keep their spelling; keys are sorted and indented by two spaces,
// as transformers writes them.
func RewriteConfig(config []byte, change func(keys map[string]any)) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var keys map[string]any
	if err := dec.Decode(&keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	change(keys)
	return MarshalJSON(keys)
}

// MarshalJSON encodes v as transformers does: indented by two spaces, without HTML escapes.
func MarshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// SetDType sets transformers' name of dtype in the keys of a config.json: under dtype (since 5.0) if that is present,
// else under torch_dtype.
func SetDType(keys map[string]any, dtype checkpoints.DType) {
	names := map[checkpoints.DType]string{
		checkpoints.F64: "float64", checkpoints.F32: "float32", checkpoints.F16: "float16", checkpoints.BF16: "bfloat16",
	}
	key := "torch_dtype"
	if _, ok := keys["dtype"]; ok {
		key = "dtype"
	}
	keys[key] = names[dtype]
}
