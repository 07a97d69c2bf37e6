package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// resolver reads config.json field by field.
type resolver struct {
	family     *Family
	raw        map[string]any
	numbers    map[string]float64
	bools      map[string]bool // boolean fields, and values of fields chosen by name
	names      map[string]string
	layerTypes []string
	scalings   map[string]RopeScaling
}

func newResolver(f *Family, raw map[string]any) *resolver {
	return &resolver{
		family: f, raw: raw, names: map[string]string{}, scalings: map[string]RopeScaling{}, bools: map[string]bool{"scale_scores": true, "causal": true},
		numbers: map[string]float64{"padding": -1, "embed_scale": 1, "residual_scale": 1, "logit_scale": 1},
	}
}

func (r *resolver) resolve(k fieldKind) error {
	field, ok := r.family.Config[k.name]
	if !ok {
		return nil
	}
	value, source, err := r.value(k, field)
	switch {
	case err != nil:
		return fmt.Errorf("config.json: %w", err)
	case value == nil && strings.IndexByte("rlp", k.kind) >= 0:
		return nil
	case value == nil:
		return fmt.Errorf("config.json: %s is missing and family %s has no default for it", strings.Join(field.Keys, " or "), r.family.Name)
	}
	if err := r.set(k, field, value); err != nil {
		return fmt.Errorf("config.json: %s %w", source, err)
	}
	return nil
}

// value returns the raw value of a field and where it was found.
func (r *resolver) value(k fieldKind, field Field) (value any, source string, err error) {
	constant := func(how string, value any) (any, string, error) {
		if s, ok := value.(string); ok && strings.IndexByte("incwb", k.kind) >= 0 {
			value = expression(s)
		}
		if list, ok := value.([]any); ok && k.kind == 'l' {
			value = pattern(list)
		}
		return value, fmt.Sprintf("%s (%s %v)", k.name, how, value), nil
	}
	if on, err := r.isOn(field.If); err != nil || !on {
		value, source, _ = constant("without "+field.If, field.Else)
		return value, source, err
	}
	for _, key := range field.Keys {
		v, ok := lookup(r.raw, key)
		if ok {
			return v, key, nil
		}
		if _, there := r.raw[key]; there && field.IfNull != nil {
			return constant("where "+key+" is null", field.IfNull)
		}
	}
	return constant("by default", field.Default)
}

// isOn reads a boolean key: true if key is "", false if it is missing.
func (r *resolver) isOn(key string) (bool, error) {
	v, ok := lookup(r.raw, key)
	on, isBool := v.(bool)
	if ok && !isBool {
		return false, fmt.Errorf("%s is %s, want true or false", key, literal(v))
	}
	return on || key == "", nil
}

func (r *resolver) set(k fieldKind, field Field, value any) (err error) {
	switch k.kind {
	case 'i':
		r.numbers[k.name], err = r.sizeAs(value, field.As)
	case 'c':
		r.numbers[k.name], err = r.count(value)
	case 'n':
		r.numbers[k.name], err = r.scaled(value, field.As)
	case 't':
		r.numbers[k.name], err = r.number(value)
		if n := r.numbers[k.name]; err == nil && (n < 0 || n >= r.numbers["vocab"] || n != math.Trunc(n)) {
			err = fmt.Errorf("is %v, want a token ID below the vocabulary size %v", n, r.numbers["vocab"])
		}
	case 'w':
		if value != 0 && value != uint64(0) { // a constant given by the family, meaning none
			r.numbers[k.name], err = r.size(value)
		}
	case 'p':
		r.numbers[k.name], err = r.padding(value)
	case 'l':
		r.layerTypes, err = r.layerTypesOf(value)
	case 'b':
		r.bools[k.name], err = r.truth(value)
	case 's':
		name := fmt.Sprint(value)
		if mapped, ok := field.Values[name]; ok {
			name = mapped
		}
		if !slices.Contains(k.allowed, name) {
			return fmt.Errorf("is %q, want one of %s", name, strings.Join(k.allowed, ", "))
		}
		r.names[k.name], r.bools[name] = name, true
	case 'r':
		r.scalings[k.name], err = r.ropeScaling(value, field)
	}
	return err
}

// truth returns a bool, or the earlier field of that name.
func (r *resolver) truth(value any) (bool, error) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case expression:
		return r.bools[string(v)], nil
	}
	return false, fmt.Errorf("is %s, want true or false", literal(value))
}

// padding returns a token ID, counted from the end of the vocabulary if it is negative; -1 means none, or an ID that no
// text has.
func (r *resolver) padding(value any) (float64, error) {
	if value == "none" {
		return -1, nil
	}
	id, err := r.number(value)
	if id < 0 {
		id += r.numbers["vocab"]
	}
	if !(id >= 0 && id < r.numbers["vocab"]) {
		id = -1
	}
	return id, err
}

// scaled returns a number: value itself or, if as is a product, the result of as.
func (r *resolver) scaled(value any, as string) (float64, error) {
	n, err := r.number(value)
	if err != nil || as == "" {
		return n, err
	}
	symbols := maps.Clone(r.numbers)
	symbols["value"] = n
	return evalProduct(as, symbols)
}

// size rejects sizes that no checkpoint can have before anything is computed from them.
func (r *resolver) size(value any) (float64, error) {
	n, err := r.number(value)
	if _, computed := value.(expression); computed {
		n = math.Trunc(n) // as the classes round
	}
	if err == nil && (n < 1 || n > 1<<30 || n != math.Trunc(n)) {
		err = fmt.Errorf("is %v, want a whole number from 1 to 2^30", n)
	}
	return n, err
}

// sizeAs is scaled for sizes.
func (r *resolver) sizeAs(value any, as string) (float64, error) {
	n, err := r.size(value)
	if err != nil || as == "" {
		return n, err
	}
	if n, err = r.scaled(n, as); err != nil {
		return 0, err
	}
	return r.size(math.Trunc(n))
}

// count is size, but allows 0.
func (r *resolver) count(value any) (float64, error) {
	if n, err := r.number(value); err == nil && n == 0 {
		return 0, nil
	}
	return r.size(value)
}

// expression is a default computed from earlier fields.
type expression string

func (r *resolver) number(value any) (float64, error) {
	switch v := value.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case uint64:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case expression:
		return evalProduct(string(v), r.numbers)
	}
	return 0, fmt.Errorf("is %s, want a number", literal(value))
}

// literal formats a value as in config.json.
func literal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// grouped reports whether config.json itself says that the KV heads are laid out as groups.
func (r *resolver) grouped() bool {
	key := r.family.Config["kv_heads"].If
	return key != "" && r.raw[key] == true
}

// logitScale returns T5's 1/sqrt(dim) if scale_head is set.
func (r *resolver) logitScale() float64 {
	if r.bools["scale_head"] {
		return r.numbers["logit_scale"] / math.Sqrt(r.numbers["dim"])
	}
	return r.numbers["logit_scale"]
}
