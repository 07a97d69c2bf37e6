package recipe

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// merge sets the keys in a YAML document, as strictly as Set does: decoding into a struct would truncate 1.5 steps to
// 1.
func (r *Recipe) merge(document []byte) error {
	keys, err := decodeYAML(document)
	if err != nil {
		return err
	}
	return setAll(reflect.ValueOf(r).Elem(), "", keys)
}

func setAll(v reflect.Value, prefix string, keys map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		key, value := prefix+name, keys[name]
		field, err := lookUp(v, prefix, name)
		if err != nil {
			return err
		}
		list, isList := value.([]any)
		switch group, ok := value.(map[string]any); {
		case value == nil: // an empty value leaves the key unchanged
		case isList:
			var text string
			if text, err = listText(key, list); err == nil {
				err = assign(field, key, text)
			}
		case ok && field.Kind() == reflect.Struct:
			err = setAll(field, key+".", group)
		case ok:
			err = fmt.Errorf("%s is a group of keys, want a value", key)
		default:
			err = assign(field, key, fmt.Sprint(value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Set changes one key: "optimizer.lr=3e-4". Keys are those of the YAML, joined by dots. It is an error, which names the
// key, if the key is unknown or a group of keys, or if the value has the wrong type. Of steps and alpha,
// the last to be set determines the number of steps.
func (r *Recipe) Set(assignment string) error {
	if err := r.set(assignment); err != nil {
		return Error{err}
	}
	return nil
}

func (r *Recipe) set(assignment string) error {
	key, value, ok := strings.Cut(assignment, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q: want key=value, such as optimizer.lr=3e-4", shorten(assignment))
	}
	v, err := lookUp(reflect.ValueOf(r).Elem(), "", key)
	if err != nil {
		return err
	}
	if err := assign(v, key, value); err != nil {
		return err
	}
	if key == "alpha" { // it is to determine the steps
		r.Steps = 0
	}
	return nil
}

// lookUp finds the field with a dotted key in v; prefix, empty or ending in a dot, is the key of v itself.
func lookUp(v reflect.Value, prefix, key string) (reflect.Value, error) {
	at := strings.TrimSuffix(prefix, ".")
	for name := range strings.SplitSeq(key, ".") {
		if v.Kind() != reflect.Struct {
			return v, fmt.Errorf("unknown key %q: %s has no keys below it", shorten(prefix+key), at)
		}
		next, known := member(v, name)
		if !next.IsValid() {
			below := ""
			if at != "" {
				below = " below " + at
			}
			return v, fmt.Errorf("unknown key %q, want one of %s%s", shorten(prefix+key), strings.Join(known, ", "), below)
		}
		v, at = next, strings.TrimPrefix(at+"."+name, ".")
	}
	return v, nil
}

// member returns the field with the YAML key name and, if there is none, the known keys.
func member(v reflect.Value, name string) (field reflect.Value, known []string) {
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if tag == name {
			return v.Field(i), nil
		}
		known = append(known, tag)
	}
	return field, known
}

func assign(v reflect.Value, key, value string) error {
	var err error
	want := "a number"
	switch v.Kind() {
	case reflect.String:
		v.SetString(value)
	case reflect.Int, reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(value, 10, 64)
		v.SetInt(n)
		want = "an integer"
	case reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(value, 10, 64)
		v.SetUint(n)
		want = "an integer, 0 or more"
	case reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(value, 64)
		v.SetFloat(f)
	case reflect.Pointer: // to a bool
		var b bool
		b, err = strconv.ParseBool(value)
		v.Set(reflect.ValueOf(&b))
		want = "true or false"
	default:
		_, known := member(v, "")
		return fmt.Errorf("%s is a group of keys; set one of %s", key, strings.Join(known, ", "))
	}
	if err != nil {
		return fmt.Errorf("%s is %q, want %s", key, shorten(value), want)
	}
	return nil
}

// shorten shortens user input for quoting in an error.
func shorten(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
