package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// unmarshal is json.Unmarshal with errors in terms of the JSON text rather than Go types.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return err
	}
	if mismatch.Field == "" {
		return fmt.Errorf("%.60s: JSON %s, want %s", data, mismatch.Value, jsonKind(mismatch.Type))
	}
	return fmt.Errorf("%s: JSON %s, want %s", mismatch.Field, mismatch.Value, jsonKind(mismatch.Type))
}

// jsonKind returns the kind of JSON value that decodes into a type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "string"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	}
	return "a number in the range of " + t.String()
}
