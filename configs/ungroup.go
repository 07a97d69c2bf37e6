package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Ungrouped returns the architecture with one KV head per head at every site, and the changes that this makes to a's
// config.json, config: dotted path -> value, nil for a key to be removed. If a already has as many KV heads as heads,
// it returns a.
func (a *Arch) Ungrouped(config []byte) (*Arch, map[string]any, error) {
	if a.ungrouped() {
		return a, nil, nil
	}
	keys, err := parseConfig(config)
	if err != nil {
		return nil, nil, err
	}
	changes := map[string]any{LayersKey: nil, a.Family.Groups.Key: nil}
	if key := a.Family.Groups.SitesKey; key != "" {
		changes[key] = nil
	}
	maps.Copy(changes, a.Family.Attention.Set)
	setKeys(keys, changes)
	f, err := familyOf(a.Family.Name, nil)
	if err != nil {
		return nil, nil, err
	}
	v := f.variant(keys)
	_, unset := v.Attention.Set[v.Groups.Key]
	if !unset && (v.Grouping(1).Class != "" || v.Grouping(2).Class != "") { // a class reads the key
		changes[v.Groups.Key] = a.Heads
		setKeys(keys, changes)
	}
	full, err := f.resolve(keys)
	if err != nil {
		return nil, nil, err
	}
	if !full.ungrouped() {
		return nil, nil, fmt.Errorf("families/%s.yaml: attention: set does not lead to as many KV heads as heads (%d)", a.Family.Name, a.Heads)
	}
	b := *a
	b.Family, b.grouped, b.LayerKVHeads = full.Family, full.grouped, nil
	for _, s := range a.Sites() {
		*b.siteKVHeads(s) = a.Heads
	}
	return &b, changes, nil
}

// ungrouped reports whether every head has its own KV head.
func (a *Arch) ungrouped() bool {
	return a.LayerKVHeads == nil && !slices.ContainsFunc(a.Sites(), func(s Site) bool { return a.SiteKVHeads(s) < a.Heads })
}

func setKeys(keys, changes map[string]any) {
	for path, value := range changes {
		SetKey(keys, path, value)
	}
}

// RewriteConfig changes the keys of config.json to those read by the class for grouped results.
func (f *Family) RewriteConfig(keys map[string]any) {
	for _, r := range f.Rewrite {
		if holds(r.When, keys) {
			r.change(keys)
		}
	}
}

// Rewrites reports whether RewriteConfig changes config.
func (f *Family) Rewrites(config []byte) bool {
	before, err := parseConfig(config)
	if err != nil {
		return false
	}
	after, _ := parseConfig(config)
	f.RewriteConfig(after)
	return !reflect.DeepEqual(before, after)
}

func (r Rewrite) change(keys map[string]any) {
	for _, names := range []map[string]string{r.Copy, r.Move} {
		for old, name := range names {
			if value, there := keys[old]; there {
				keys[name] = value
			}
		}
	}
	for old := range r.Move {
		delete(keys, old)
	}
	for name, known := range r.Only {
		object, _ := keys[name].(map[string]any)
		maps.DeleteFunc(object, func(key string, _ any) bool { return !slices.Contains(known, key) })
	}
	setKeys(keys, r.Set)
}

// SetKey sets the value at a dotted path in config.json's keys, making objects along the path as needed; nil removes
// the key.
func SetKey(keys map[string]any, path string, value any) {
	head, rest, nested := strings.Cut(path, ".")
	inner, isObject := keys[head].(map[string]any)
	switch {
	case value == nil && !nested:
		delete(keys, head)
	case value == nil && !isObject:
	case !nested:
		keys[head] = value
	default:
		if !isObject {
			inner = map[string]any{}
			keys[head] = inner
		}
		SetKey(inner, rest, value)
	}
}
