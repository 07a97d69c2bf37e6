package configs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Naming describes how the tensor names of one checkpoint differ from those of its family.
type Naming struct {
	Wrapper string // prefix of the names that the family does not know: "module."
	Prefix  string // value of {prefix} in the names after Wrapper
	Fits    bool   // the family knows most of the names

	family *Family
	names  templates
}

// wrappers are parts of names that stand for a module around another one: torch.compile's, FSDP's, DDP's, and peft's
// around a linear layer. They may be anywhere in a name.
var wrappers = []string{"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module", "base_layer"}

// savedModule is what peft inserts between the name of a fully trained module and its weights.
const savedModule = ".modules_to_save.default."

// Replaced returns the name of the weights that a module had before peft trained it as a whole, or "" if name belongs
// to no such module.
func Replaced(name string) string {
	if !strings.Contains(name, savedModule) {
		return ""
	}
	return strings.Replace(name, savedModule, ".original_module.", 1)
}

// Naming determines the wrapper prefix that most names share and the family does not know, and which of the family's
// own prefixes is in use: the one with which most names are known, or the shortest of several.
func (f *Family) Naming(names []string) Naming {
	best := Naming{family: f, names: f.templates(), Prefix: f.Prefixes[0]}
	var bare []string
	for _, name := range names {
		bare = append(bare, best.unwrap(name))
	}
	known := 0
	for _, wrapper := range sharedPrefixes(bare) {
		for _, prefix := range f.Prefixes {
			if n := best.names.count(bare, wrapper, prefix); n > known {
				best.Wrapper, best.Prefix, known = wrapper, prefix, n
			}
		}
	}
	if best.Fits = 2*known > len(names); !best.Fits {
		best.Wrapper = ""
	}
	return best
}

// Name returns the family's name for the tensor.
func (n Naming) Name(name string) string {
	return strings.TrimPrefix(n.unwrap(name), n.Wrapper)
}

// Strays returns those of a checkpoint's names that do not belong to the model: names that the family does not know and
// that are not wrapped, if all known names are.
func (n Naming) Strays(names []string) (strays []string) {
	if !n.Fits {
		return nil
	}
	for _, name := range names {
		switch own := n.Name(name); {
		case own != name:
		case n.Knows(name):
			return nil
		default:
			strays = append(strays, name)
		}
	}
	return strays
}

// Knows reports whether a name, as returned by Name, is one that the family uses in some layer.
func (n Naming) Knows(name string) bool { return n.names.know(name, n.Prefix) }

// unwrap removes the parts of a name that wrappers added.
func (n Naming) unwrap(name string) string {
	for _, prefix := range n.family.Prefixes {
		if n.names.know(name, prefix) {
			return name
		}
	}
	parts := strings.Split(strings.Replace(name, savedModule, ".", 1), ".")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return slices.Contains(wrappers, part) }), ".")
}

// sharedPrefixes returns the prefixes that more than half of the names share, from "" on; the others end in a dot.
func sharedPrefixes(names []string) []string {
	const deepest = 16 // maximum number of parts of a name
	count := map[string]int{}
	for _, name := range names {
		at := 0
		for range deepest {
			dot := strings.IndexByte(name[at:], '.')
			if dot < 0 {
				break
			}
			at += dot + 1
			count[name[:at]]++
		}
	}
	prefixes := []string{""}
	for prefix, n := range count {
		if 2*n > len(names) {
			prefixes = append(prefixes, prefix)
		}
	}
	slices.SortFunc(prefixes, func(a, b string) int { return cmp.Compare(len(a), len(b)) }) // each is a prefix of the next
	return prefixes
}

// templates are the names of a family's tensors, with 0 for every number and without suffixes such as .weight. The
// value tells whether {prefix} precedes the name.
type templates map[template]bool

type template struct {
	name     string
	prefixed bool
}

func (f *Family) templates() templates {
	known := templates{}
	add := func(names ...string) {
		for _, name := range names {
			if name == "" {
				continue
			}
			rest, prefixed := strings.CutPrefix(strings.NewReplacer("{layer}", "0", "{head}", "0").Replace(name), "{prefix}")
			known[template{zeros(rest), prefixed}] = true
		}
	}
	entries := func(all map[Role]TensorEntry) {
		for _, e := range all {
			add(e.Name, e.GatedName, e.UntiedName)
			add(e.Also...)
		}
	}
	for _, v := range append([]Variant{{}}, f.Variants...) {
		g := f.with(v)
		entries(g.Tensors)
		entries(g.Layer)
	}
	if f.Encoder != nil {
		entries(f.Encoder.Tensors)
		entries(f.Encoder.Layer)
	}
	add(f.Buffers...)
	return known
}

// zeros returns name with every number in it replaced by 0.
func zeros(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if part != "" && strings.Trim(part, "0123456789") == "" {
			parts[i] = "0"
		}
	}
	return strings.Join(parts, ".")
}

// know reports whether a tensor's name is one of them.
func (t templates) know(name, prefix string) bool {
	module := name
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 && slices.Contains([]string{"weight", "bias", "gamma", "beta"}, name[dot+1:]) {
		module = name[:dot]
	}
	for _, form := range []string{name, module} {
		rest, prefixed := strings.CutPrefix(form, prefix)
		if t[template{zeros(form), false}] || prefixed && t[template{zeros(rest), true}] {
			return true
		}
	}
	return false
}

func (t templates) count(names []string, wrapper, prefix string) (known int) {
	for _, name := range names {
		if t.know(strings.TrimPrefix(name, wrapper), prefix) {
			known++
		}
	}
	return known
}

// tables are modules and buffers of older releases that can be computed from config.json: rotary tables, positions,
// causal masks.
var tables = []string{
	"rotary_emb", "rotary_pos_emb", "maybe_rotary", "rotary_embedding",
	"inv_freq", "original_inv_freq", "cos_cached", "sin_cached", "cos_cache", "sin_cache", "cos_sin_cache", "freqs_cis",
	"masked_bias", "causal_mask", "attn_mask", "position_ids",
}

// IsTable reports whether a tensor unknown to the family can be computed from config.json, judging by its name, or by
// its shape if it is the causal mask that GPT-2's successors call an attention's bias.
func IsTable(name string, shape []int) bool {
	parts := strings.Split(name, ".")
	last := len(parts) - 1
	if slices.ContainsFunc(parts, func(part string) bool { return slices.Contains(tables, part) }) {
		return true
	}
	return last > 0 && len(shape) > 2 && parts[last] == "bias" && strings.Contains(parts[last-1], "att")
}

// StandIns returns the alternative names of tensors that a checkpoint may store under one of several names because they
// share memory. tied means that the head shares the embedding's weight.
func (f *Family) StandIns(prefix string, tied bool) map[string][]string {
	others := map[string][]string{}
	full := func(e TensorEntry, name string) string {
		if name = expandName(name, prefix, -1); e.Bare {
			return name
		}
		return name + ".weight"
	}
	for role, e := range f.Tensors {
		own := full(e, e.Name)
		for _, name := range e.Also {
			others[own] = append(others[own], full(e, name))
		}
		if tied && e.UntiedName != "" {
			others[own] = append(others[own], full(e, e.UntiedName))
		}
		if head := f.Tensors[Head]; role == Embed && tied && head.Name != "" {
			others[own] = append(others[own], full(head, head.Name))
		}
	}
	return others
}

// MayTie reports whether a head can stand in for a missing embedding: because config.json ties them or, where the head
// decides, because T5 scales as a tied model does.
func (a *Arch) MayTie() bool { return a.Tied || a.HeadDecides() && a.bools["scale_head"] }

// some describes, for an error, some of the tensors that a family does not know, and the families that know them.
func some(names []string) string {
	slices.Sort(names)
	text := fmt.Sprintf("it holds %s", strings.Join(names[:min(len(names), 3)], ", "))
	if len(names) > 3 {
		text += fmt.Sprintf(", … (%d tensors)", len(names))
	}
	families, err := Families()
	if err != nil {
		return text
	}
	var like []string
	most := len(names) / 2
	for _, f := range slices.SortedFunc(maps.Values(families), func(a, b *Family) int { return cmp.Compare(a.Name, b.Name) }) {
		n := f.Naming(names)
		switch known := n.names.count(names, n.Wrapper, n.Prefix); {
		case known > most:
			like, most = []string{f.Name}, known
		case known == most && like != nil:
			like = append(like, f.Name)
		}
	}
	if like != nil {
		text += ", as family " + strings.Join(like, " or ") + " has them"
	}
	return text
}
