package recipe

import (
	"fmt"
	"reflect"
	"strings"
)

// Change is a key whose value differs between two recipes.
type Change struct {
	Key      string // joined by dots: optimizer.lr
	Old, New any
}

// String describes the change: optimizer.lr is 0.001 there and 0.0003 here.
func (c Change) String() string {
	return fmt.Sprintf("%s is %s there and %s here", c.Key, valueText(c.Old), valueText(c.New))
}

// Setting returns the assignment that makes the change: see [Recipe.Set].
func (c Change) Setting() string { return fmt.Sprintf("%s=%v", c.Key, c.New) }

func valueText(v any) string {
	if text := fmt.Sprint(v); text != "" && text != "<nil>" {
		return text
	}
	return "nothing"
}

// Diff returns the keys in which other, the newer recipe, differs from r, in the order of [Recipe].
func (r Recipe) Diff(other Recipe) []Change {
	return diff("", reflect.ValueOf(r), reflect.ValueOf(other))
}

// pointee returns what a pointer points to; other values, and nil, as they are.
func pointee(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem()
	}
	return v
}

func diff(prefix string, old, now reflect.Value) (changes []Change) {
	for i := range old.NumField() {
		name, _, _ := strings.Cut(old.Type().Field(i).Tag.Get("yaml"), ",")
		from, to := pointee(old.Field(i)), pointee(now.Field(i))
		switch {
		case from.Kind() == reflect.Struct:
			changes = append(changes, diff(prefix+name+".", from, to)...)
		case !from.Equal(to):
			changes = append(changes, Change{prefix + name, from.Interface(), to.Interface()})
		}
	}
	return changes
}
