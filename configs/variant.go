package configs

import (
	"fmt"
	"maps"
	"path"
	"slices"
)

// Variant holds the differences of checkpoints whose config.json has the keys of When, for classes that cover several
// architectures. Its entries replace the family's entries of the same name; a null entry removes one.
type Variant struct {
	When      map[string]any        `yaml:"when"` // dotted path -> value ("5.*" is a pattern) or list of values; all must match
	Note      string                `yaml:"note"` // remark for users of such a checkpoint
	Config    map[string]Field      `yaml:"config"`
	Attention *QKV                  `yaml:"attention"`
	Groups    *Groups               `yaml:"groups"`
	Tensors   map[Role]*TensorEntry `yaml:"tensors"`
	Layer     map[Role]*TensorEntry `yaml:"layer"`
	GGUFNames map[Role]string       `yaml:"gguf_names"` // replaces gguf.names
}

// variant returns the family after applying, in order, every variant that matches config.json's keys.
func (f *Family) variant(config map[string]any) *Family {
	for _, v := range f.Variants {
		if v.applies(config) {
			f = f.with(v)
		}
	}
	return f
}

func (v *Variant) applies(config map[string]any) bool { return holds(v.When, config) }

// holds reports whether config.json's keys match when.
func holds(when, config map[string]any) bool {
	for key, want := range when {
		values, several := want.([]any)
		if !several {
			values = []any{want}
		}
		got, ok := lookup(config, key)
		if !ok || !slices.ContainsFunc(values, func(w any) bool { return matches(w, got) }) {
			return false
		}
	}
	return true
}

func matches(want, got any) bool {
	ok, _ := path.Match(fmt.Sprint(want), fmt.Sprint(got))
	return ok
}

// notes returns the remarks on such a checkpoint.
func (f *Family) notes(config map[string]any) []string {
	var notes []string
	for _, v := range f.Variants {
		if v.Note != "" && v.applies(config) {
			notes = append(notes, v.Note)
		}
	}
	return notes
}

// with returns a copy of the family with a variant's entries in place of its own.
func (f *Family) with(v Variant) *Family {
	g := *f
	g.Config = maps.Clone(f.Config)
	maps.Copy(g.Config, v.Config)
	g.Tensors, g.Layer = replaced(f.Tensors, v.Tensors), replaced(f.Layer, v.Layer)
	if v.Attention != nil {
		g.Attention = *v.Attention
	}
	if v.Groups != nil {
		g.Groups = *v.Groups
	}
	if v.GGUFNames != nil && f.GGUF != nil {
		gguf := *f.GGUF
		gguf.Names, g.GGUF = v.GGUFNames, &gguf
	}
	return &g
}

func replaced(entries map[Role]TensorEntry, by map[Role]*TensorEntry) map[Role]TensorEntry {
	out := make(map[Role]TensorEntry, len(entries))
	maps.Copy(out, entries)
	for role, e := range by {
		if e == nil {
			delete(out, role)
		} else {
			out[role] = *e
		}
	}
	return out
}

// Grouping describes how a checkpoint with groups KV heads, fewer than heads, is written.
func (f *Family) Grouping(groups int) Groups {
	g := f.Groups
	if g.Layout == "" {
		g.Layout = f.Attention.Layout
	}
	if groups == 1 && g.Single != nil {
		one := *g.Single
		if one.Key == "" {
			one.Key = g.Key
		}
		if one.Layout == "" {
			one.Layout = g.Layout
		}
		return one
	}
	return g
}
