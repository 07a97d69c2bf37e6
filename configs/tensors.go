package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tensor is one tensor that a checkpoint of an Arch must hold.
type Tensor struct {
	Name       string // as the checkpoint calls it
	Shape      []int  // as the checkpoint stores it
	Role       Role
	Layer      int // -1 outside the layers
	Bias       bool
	Transposed bool // a weight stored [in, out]
}

// Tensors lists every tensor that the architecture needs, in the order in which a forward pass meets them.
func (a *Arch) Tensors() ([]Tensor, error) {
	var all []Tensor
	add := func(roles []Role, entries map[Role]TensorEntry, layer int) error {
		for _, role := range roles {
			e, ok := entries[role]
			if !ok || a.bools[e.Unless] {
				continue
			}
			ts, err := a.entry(role, e, layer)
			if err != nil {
				return fmt.Errorf("families/%s.yaml: %s: %w", a.Family.Name, role, err)
			}
			all = append(all, ts...)
		}
		return nil
	}
	if err := add(modelRoles, a.Family.Tensors, -1); err != nil {
		return nil, err
	}
	for layer := range a.Layers {
		if err := add(layerRoles, a.Family.Layer, layer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (a *Arch) entry(role Role, e TensorEntry, layer int) ([]Tensor, error) {
	shape := make([]int, len(e.Shape))
	for i, expr := range e.Shape {
		v, err := evalProduct(expr, a.symbols())
		if err != nil {
			return nil, err
		}
		shape[i] = int(v)
	}
	name := a.expand(e.Name, layer)
	weight := Tensor{Name: name + ".weight", Shape: slices.Clone(shape), Role: role, Layer: layer, Transposed: e.Transposed}
	if e.Transposed {
		slices.Reverse(weight.Shape)
	}
	if e.Bias != "always" && !a.bools[e.Bias] {
		return []Tensor{weight}, nil
	}
	return []Tensor{weight, {Name: name + ".bias", Shape: shape[:1], Role: role, Layer: layer, Bias: true}}, nil
}

func (a *Arch) symbols() map[string]float64 {
	q, kv := a.Heads*a.HeadDim, a.KVDim()
	return map[string]float64{
		"vocab": float64(a.Vocab), "dim": float64(a.Dim), "ffn": float64(a.FFN), "context": float64(a.Context),
		"head_dim": float64(a.HeadDim), "q_dim": float64(q), "kv_dim": float64(kv), "qkv_dim": float64(q + 2*kv),
	}
}

func (a *Arch) expand(template string, layer int) string {
	return expandName(template, a.Prefix, layer)
}

// TensorName is the name of the weight that has a role once per model.
func (a *Arch) TensorName(role Role) string {
	return a.expand(a.Family.Tensors[role].Name, -1) + ".weight"
}

// Layout is the layout of the query, key and value rows of this checkpoint.
func (a *Arch) Layout() Layout {
	if a.KVHeads < a.Heads {
		return a.Family.Groups.Layout
	}
	return a.Family.Attention.Layout
}

// Bind fits the architecture to a checkpoint's tensor names and shapes: it finds the prefix in use and accounts for every
// tensor. Missing, unknown and wrongly shaped tensors are one error that names them.
func (a *Arch) Bind(shapes map[string][]int) error {
	if a.Layers > len(shapes) { // said here, before as many tensors are listed
		return fmt.Errorf("config.json asks for %d layers, but there are only %d tensors", a.Layers, len(shapes))
	}
	embed := a.Family.Tensors[Embed].Name
	for _, p := range a.Family.Prefixes {
		if _, ok := shapes[expandName(embed, p, -1)+".weight"]; ok {
			a.Prefix = p
			break
		}
	}
	tensors, err := a.Tensors()
	if err != nil {
		return err
	}
	var missing, wrong []string
	expected := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		expected[t.Name] = true
		got, ok := shapes[t.Name]
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("%s %v", t.Name, t.Shape))
		case !slices.Equal(got, t.Shape):
			wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", t.Name, got, t.Shape))
		}
	}
	if len(missing) == len(tensors) {
		return fmt.Errorf("no tensor has a name that family %s knows (such as %s); is it another family?", a.Family.Name, tensors[0].Name)
	}
	carried := a.carried()
	var unknown []string
	for name := range shapes {
		if !expected[name] && !carried[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return accountError(a.Family.Name, missing, wrong, unknown)
}

// carried names the tensors that may be there without being read: buffers of older releases, and a tied head's copy.
func (a *Arch) carried() map[string]bool {
	names := map[string]bool{}
	for _, template := range a.Family.Buffers {
		for layer := range a.Layers {
			names[a.expand(template, layer)] = true
		}
	}
	for _, e := range a.Family.Tensors {
		if e.Unless != "" && a.bools[e.Unless] {
			names[a.expand(e.Name, -1)+".weight"] = true
			names[a.expand(e.Name, -1)+".bias"] = true
		}
	}
	return names
}

func accountError(family string, missing, wrong, unknown []string) error {
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"missing", missing}, {"wrong shape", wrong}, {"unknown", unknown}} {
		if len(p.names) > 0 {
			parts = append(parts, p.what+": "+shorten(p.names))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("the tensors do not fit family %s with this config.json; %s", family, strings.Join(parts, "; "))
}

// shorten names all of a short list, and the ends of a long one.
func shorten(names []string) string {
	if n := len(names); n > 40 {
		return fmt.Sprintf("%s, … (%d in all) …, %s", strings.Join(names[:20], ", "), n, names[n-1])
	}
	return strings.Join(names, ", ")
}

// Param is one weight as a forward pass reads it, and where it lies in the checkpoint.
type Param struct {
	Name       string // "layers.3.q.weight", "embed.weight"
	Role       Role   // never FusedQKV: that is taken apart into Q, K and V
	Bias       bool
	Shape      []int  // [out, in] for a matrix, [dim] for a vector
	Tensor     string // the checkpoint's tensor that holds it
	Stored     []int  // that tensor's shape
	Rows       []int  // which rows of that tensor (once transposed, if Transposed) are this weight; nil: all
	Transposed bool
}

// Params lists the weights of the forward pass: the checkpoint's tensors with a fused query-key-value tensor taken apart.
func (a *Arch) Params() ([]Param, error) {
	tensors, err := a.Tensors()
	if err != nil {
		return nil, err
	}
	var q, k, v []int
	if layout := a.Layout(); layout != Separate {
		q, k, v = layout.Rows(a.Heads, a.KVHeads, a.HeadDim)
	}
	params := make([]Param, 0, len(tensors))
	for _, t := range tensors {
		if t.Role != FusedQKV {
			params = append(params, t.param(t.Role, nil))
			continue
		}
		params = append(params, t.param(Q, q), t.param(K, k), t.param(V, v))
	}
	return params, nil
}

func (t Tensor) param(role Role, rows []int) Param {
	shape := slices.Clone(t.Shape)
	if t.Transposed {
		slices.Reverse(shape)
	}
	if rows != nil {
		shape[0] = len(rows)
	}
	return Param{
		Name: ParamName(role, t.Layer, t.Bias), Role: role, Bias: t.Bias, Shape: shape, Tensor: t.Name, Stored: t.Shape, Rows: rows, Transposed: t.Transposed,
	}
}

// ParamName is the forward pass's name of a weight or bias; layer is -1 outside the layers.
func ParamName(role Role, layer int, bias bool) string {
	name := string(role) + ".weight"
	if bias {
		name = string(role) + ".bias"
	}
	if layer >= 0 {
		return "layers." + strconv.Itoa(layer) + "." + name
	}
	return name
}

// Size is how many elements the weight has.
func (p Param) Size() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}
