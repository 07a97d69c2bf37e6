package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Infer returns a config.json for a checkpoint that has none, derived from its family, its number of heads and its
// tensors' shapes. Sizes come from the shapes; values that shapes do not determine (norm epsilon, rope theta …) are the
// class's defaults.
func Infer(family string, heads int, shapes map[string][]int) ([]byte, error) {
	f, err := familyOf(family, nil)
	if err != nil {
		return nil, err
	}
	if heads < 1 {
		return nil, fmt.Errorf("heads is %d, want the checkpoint's number of query heads", heads)
	}
	in := inference{family: f, shapes: shapes, sizes: map[string]int{"heads": heads}}
	for _, in.prefix = range f.Prefixes {
		if in.readSizes(); in.sizes["layers"] > 0 {
			break
		}
	}
	if in.sizes["layers"] == 0 {
		return nil, fmt.Errorf("no tensor has a name that family %s gives to its layers' (such as %s); is it another family? %s",
			f.Name, f.exampleName(), some(slices.Collect(maps.Keys(shapes))))
	}
	if err := in.divideHeads(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(in.fitting(), "", "  ")
}

// fitting returns the family's default config, or that of the variant whose tensors these are.
func (in *inference) fitting() map[string]any {
	f, config := in.family, in.config()
	for i := -1; i < len(f.Variants); i++ {
		c := config
		if i >= 0 {
			in.family = f.with(f.Variants[i])
			c = in.config()
			maps.Copy(c, f.Variants[i].When)
		}
		data, err := json.Marshal(c)
		if err != nil {
			continue
		}
		if a, err := Resolve(data, f.Name); err == nil && a.Bind(in.shapes) == nil {
			return c
		}
	}
	return config
}

// inference is what can be told from a checkpoint's shapes.
type inference struct {
	family *Family
	prefix string
	shapes map[string][]int
	sizes  map[string]int // keyed by field or by a symbol in shapes: dim, q_dim
}

// readSizes reads every size that is by itself a dimension of an existing tensor; the first tensor decides.
func (in *inference) readSizes() {
	for _, role := range modelRoles {
		in.readEntry(in.family.Tensors[role], -1)
	}
	for layer := 0; ; layer++ {
		found := false
		for _, role := range layerRoles {
			found = in.readEntry(in.family.Layer[role], layer) || found
		}
		if !found {
			in.sizes["layers"] = layer
			return
		}
	}
}

// readEntry reports whether the entry's tensor exists.
func (in *inference) readEntry(e TensorEntry, layer int) bool {
	if e.Name == "" { // the family has no tensor for this role
		return false
	}
	got, ok := in.shapes[in.name(e, layer)+".weight"]
	if !ok || len(got) != len(e.Shape) {
		return ok
	}
	for i, symbol := range e.Shape {
		if e.Transposed {
			symbol = e.Shape[len(e.Shape)-1-i]
		}
		if _, known := in.sizes[symbol]; !known {
			in.sizes[symbol] = got[i]
		}
	}
	return true
}

func (in *inference) name(e TensorEntry, layer int) string {
	return strings.ReplaceAll(expandName(e.Name, in.prefix, layer), "{head}", "0") // the first of a stack
}

// divideHeads determines the head dim and the number of KV heads.
func (in *inference) divideHeads() error {
	if n, ok := in.sizes["positions"]; ok {
		offset, _ := in.family.Config["position_offset"].Default.(uint64)
		in.sizes["context"] = n - int(offset)
	}
	heads, q := in.sizes["heads"], in.sizes["q_dim"]
	if q%heads != 0 {
		return fmt.Errorf("heads is %d, which does not divide the %d query dims of the tensors; give the checkpoint's number of query heads", heads, q)
	}
	kv, ok := in.sizes["kv_dim"]
	if qkv, fused := in.sizes["qkv_dim"]; fused {
		kv, ok = (qkv-q)/2, true
	}
	headDim := q / heads
	if latent, there := in.sizes["latent_dim"]; there {
		return in.divideLatent(latent, headDim)
	}
	if headDim == 0 || !ok {
		return nil // Bind will report what is missing
	}
	if kv%headDim != 0 {
		return fmt.Errorf("heads is %d, but heads of %d dims do not fit the %d key dims of the tensors; give the checkpoint's number of query heads", heads, headDim, kv)
	}
	in.sizes["head_dim"], in.sizes["kv_heads"] = headDim, kv/headDim
	return nil
}

// divideLatent determines the sizes of latent attention.
func (in *inference) divideLatent(latent, headDim int) error {
	s := in.sizes
	rope, value := latent-s["kv_rank"], s["value_heads_dim"]/s["heads"]
	nope := headDim - rope
	if rope < 1 || nope < 0 || s["heads"]*(nope+value) != s["kv_b_dim"] {
		return fmt.Errorf("heads is %d, but heads of %d dims and a rotary key of %d do not fit the %d key and value dims of the tensors; give the checkpoint's number of query heads",
			s["heads"], headDim, rope, s["kv_b_dim"])
	}
	s["rope_dim"], s["nope_dim"], s["value_dim"], s["kv_heads"], s["dense_layers"] = rope, nope, value, s["heads"], s["layers"]
	if _, there := s["query_rank"]; !there {
		s["query_rank"] = 0
	}
	return nil
}

func (in *inference) config() map[string]any {
	f := in.family
	config := map[string]any{"model_type": f.ModelTypes[0]}
	if f.Groups.Class != "" {
		config["architectures"] = []string{f.Groups.Class}
	}
	for name, field := range f.Config {
		if v, ok := in.sizes[name]; ok && len(field.Keys) > 0 {
			config[field.Keys[0]] = v
		}
	}
	for _, e := range f.Tensors {
		if keys := f.Config[e.Unless].Keys; len(keys) > 0 {
			_, there := in.shapes[in.name(e, -1)+".weight"]
			config[keys[0]] = !there
		}
	}
	biased := map[string]bool{}
	for _, e := range f.Layer {
		if key := f.Config[e.Bias].switchKey(); key != "" {
			_, there := in.shapes[in.name(e, 0)+".bias"]
			biased[key] = biased[key] || there
			config[key] = biased[key]
		}
		if key := f.Config[e.When].switchKey(); key != "" {
			_, config[key] = in.shapes[in.name(e, 0)+".weight"]
		}
	}
	if key := f.Config["kv_heads"].If; key != "" {
		config[key] = in.sizes["kv_heads"] < in.sizes["heads"]
	}
	return config
}

// switchKey returns the config.json key that turns a field on, or "" if there is none.
func (f Field) switchKey() string {
	if len(f.Keys) > 0 {
		return f.Keys[0]
	}
	return f.If
}

func (f *Family) exampleName() string {
	for _, role := range layerRoles {
		if e := f.Layer[role]; e.Name != "" {
			return expandName(e.Name, f.Prefixes[0], 0) + ".weight"
		}
	}
	return f.Name
}

// expandName fills in a template of a tensor name; layer is -1 outside the layers.
func expandName(template, prefix string, layer int) string {
	return strings.NewReplacer("{prefix}", prefix, "{layer}", strconv.Itoa(layer)).Replace(template)
}
