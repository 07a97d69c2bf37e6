package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// PrintJSON writes v as indented JSON followed by a newline. JSON cannot represent NaN or infinity: such a value is an
// error that names its key, and nothing is written.
func PrintJSON(w io.Writer, v any) error {
	if path, f, ok := notFinite(reflect.ValueOf(v)); ok {
		return fmt.Errorf("%s is %v, which JSON cannot represent", strings.TrimPrefix(path, "."), f)
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// notFinite finds the first NaN or infinity in v and its path: ".points[2].loss".
func notFinite(v reflect.Value) (path string, f float64, found bool) {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return "", v.Float(), math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0)
	case reflect.Pointer, reflect.Interface:
		return notFinite(v.Elem()) // the zero Value of a nil pointer has kind Invalid
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if path, f, found = notFinite(v.Index(i)); found {
				return "[" + strconv.Itoa(i) + "]" + path, f, true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if path, f, found = notFinite(v.MapIndex(key)); found {
				return fmt.Sprintf(".%v%s", key, path), f, true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if path, f, found = notFinite(v.Field(i)); found {
				return "." + keyOf(v.Type().Field(i)) + path, f, true
			}
		}
	}
	return "", 0, false
}

// keyOf returns the JSON key of a struct field.
func keyOf(field reflect.StructField) string {
	if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
		return name
	}
	return field.Name
}
