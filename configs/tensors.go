package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tensor is a tensor that a checkpoint of an Arch must hold.
type Tensor struct {
	Name       string // name in the checkpoint
	Shape      []int  // shape in the checkpoint
	Role       Role
	Layer      int  // -1 outside the layers
	Encoder    bool // belongs to the encoder of an encoder-decoder model
	Bias       bool
	Transposed bool // the weight is stored [in, out]
	KVHeads    int  // number of KV heads whose rows are in it, possibly fused with others; 0: none
	Stacked    bool // it is a single row of a weight
	UpFirst    bool // up precedes gate in a fused tensor
}

// Tensors returns every tensor that the architecture needs, in the order of a forward pass; an encoder's come after its
// decoder's.
func (a *Arch) Tensors() ([]Tensor, error) {
	all, err := a.stackTensors()
	if encoder := a.Encoder(); encoder != nil && err == nil {
		var more []Tensor
		more, err = encoder.stackTensors()
		for _, t := range more {
			t.Encoder = true
			all = append(all, t)
		}
	}
	return all, err
}

func (a *Arch) stackTensors() ([]Tensor, error) {
	var all []Tensor
	add := func(roles []Role, entries map[Role]TensorEntry, layer int) error {
		for _, role := range roles {
			ts, err := a.entry(role, entries[role], layer)
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

// Has reports whether the forward pass has that role, including norms without weights.
func (a *Arch) Has(role Role) bool {
	for _, entries := range []map[Role]TensorEntry{a.Family.Tensors, a.Family.Layer} {
		if e, ok := entries[role]; ok {
			return a.holds(e)
		}
	}
	return false
}

// NormDim returns the number of elements that a norm of that role runs over: the last dimension of its weight, or 0 for
// whole rows.
func (a *Arch) NormDim(role Role) int {
	shape := a.Family.Layer[role].Shape
	if len(shape) == 0 {
		return 0
	}
	dim, _ := evalProduct(shape[len(shape)-1], a.symbols()) // checked by checkEntry
	return int(dim)
}

// OwnNorms reports whether a norm of queries or keys has separate weights for each head, rather than none or one set
// for all.
func (a *Arch) OwnNorms(role Role) bool {
	shape := a.Family.Layer[role].Shape
	return a.Has(role) && len(shape) > 0 && shape[0] != "head_dim"
}

// holds reports whether an entry's conditions hold.
func (a *Arch) holds(e TensorEntry) bool {
	return (e.When == "" || a.bools[e.When]) && !a.bools[e.Unless] && !a.absent[e.Optional]
}

// entry returns an entry's weight and bias.
func (a *Arch) entry(role Role, e TensorEntry, layer int) ([]Tensor, error) {
	if e.Name == "" || !a.holds(e) && role != Head {
		return nil, nil
	}
	a = a.At(layer)
	shape := make([]int, len(e.Shape))
	for i, expr := range e.Shape {
		v, err := evalProduct(expr, a.symbols())
		if err != nil {
			return nil, err
		}
		shape[i] = int(v)
	}
	if e.GatedName != "" && a.MLP == Gated {
		e.Name = e.GatedName
	}
	if a.untied[role] {
		e.Name = e.UntiedName
	}
	name, kvHeads := a.expand(e.Name, layer), a.rowHeads(e.Shape[0])
	if e.Bare && a.holds(e) {
		return []Tensor{{Name: name, Shape: shape, Role: role, Layer: layer}}, nil
	}
	weightName, biasName := name+".weight", name+".bias"
	if a.oldNorms && role.IsNorm() {
		weightName, biasName = name+".gamma", name+".beta"
	}
	weight := Tensor{
		Name: weightName, Shape: slices.Clone(shape), Role: role, Layer: layer, Transposed: e.Transposed, KVHeads: kvHeads, UpFirst: e.UpFirst,
	}
	if e.Transposed {
		slices.Reverse(weight.Shape)
	}
	if e.stacked() {
		return weight.rows(), nil
	}
	var tensors []Tensor
	if a.holds(e) {
		tensors = append(tensors, weight)
	}
	if e.Bias == "always" || a.bools[e.Bias] || e.Bias == stored && a.biased[role] {
		tensors = append(tensors, Tensor{
			Name: biasName, Shape: shape[:1], Role: role, Layer: layer, Bias: true, KVHeads: kvHeads,
		})
	}
	return tensors, nil
}

// rowHeads returns the number of KV heads in that many rows, or 0 if the rows are not KV heads.
func (a *Arch) rowHeads(rows string) int {
	switch rows {
	case "kv_dim", "kv_heads", "qkv_dim":
		return a.KVHeads
	case "cross_kv_dim":
		return a.CrossKVHeads
	}
	return 0
}

// rows returns the tensors that {head} in a name stands for, one for each row.
func (t Tensor) rows() []Tensor {
	tensors := make([]Tensor, t.Shape[0])
	for i := range tensors {
		tensors[i] = t
		tensors[i].Name = strings.ReplaceAll(t.Name, "{head}", strconv.Itoa(i))
		tensors[i].Shape, tensors[i].Stacked = t.Shape[1:], true
	}
	return tensors
}

func (a *Arch) symbols() map[string]float64 {
	q, kv := a.Heads*a.HeadDim, a.KVDim()
	return map[string]float64{
		"vocab": float64(a.Vocab), "dim": float64(a.Dim), "ffn": float64(a.FFN), "context": float64(a.Context),
		"heads": float64(a.Heads), "kv_heads": float64(a.KVHeads), "head_dim": float64(a.HeadDim),
		"q_dim": float64(q), "kv_dim": float64(kv), "qkv_dim": float64(q + 2*kv), "cross_kv_dim": float64(a.CrossKVHeads * a.HeadDim),
		"value_heads_dim": float64(a.Heads * a.ValueDim()), "kv_rank": float64(a.Latent.Rank), "query_rank": float64(a.Latent.QueryRank),
		"latent_dim": float64(a.Latent.CacheDim()), "kv_b_dim": float64(a.Heads * (a.Latent.NopeDim + a.Latent.ValueDim)),
		"embed_dim": float64(a.EmbedDim), "positions": float64(a.Context + a.PositionOffset),
		"token_types": float64(a.TokenTypes), "relative_buckets": float64(a.Relative.Buckets),
	}
}

func (a *Arch) expand(template string, layer int) string {
	return expandName(template, a.Prefix, layer)
}

// TensorName returns the name of the weight with a role that occurs once per model.
func (a *Arch) TensorName(role Role) string {
	return a.expand(a.Family.Tensors[role].Name, -1) + ".weight"
}

// Layout returns the layout of this checkpoint's query, key and value rows.
func (a *Arch) Layout() Layout {
	if a.KVHeads < a.Heads || a.grouped || a.LayerKVHeads != nil {
		return a.Family.Grouping(a.KVHeads).Layout
	}
	return a.Family.Attention.Layout
}

// Param is a weight as the forward pass reads it, and its place in the checkpoint.
type Param struct {
	Name       string // "layers.3.q.weight", "embed.weight"
	Role       Role   // never FusedQKV or GateUp, which are split
	Layer      int    // -1 outside the layers
	Bias       bool
	Shape      []int    // [out, in] for a matrix, [dim] for a vector
	Tensor     string   // the checkpoint's tensor that holds it, or the first of Parts
	Parts      []string // the tensors that hold one row each; nil: only Tensor
	Stored     []int    // that tensor's shape
	Rows       []int    // rows of that tensor (transposed first, if Transposed) that form this weight; nil: all
	Transposed bool
	KVHeads    int // number of KV heads that its rows belong to and a conversion pools; 0: none
}

// Hidden reports whether the weight is a matrix applied to hidden states, as opposed to a lookup table, head, norm or
// bias.
func (p Param) Hidden() bool {
	return len(p.Shape) == 2 && !p.Bias && !p.IsNorm() && !slices.Contains(tableRoles, p.Role)
}

// Params returns the weights of the forward pass: the checkpoint's tensors with fused ones split.
func (a *Arch) Params() ([]Param, error) {
	tensors, err := a.Tensors()
	if err != nil {
		return nil, err
	}
	var q, k, v []int
	layout, of := a.Layout(), 0 // of: number of KV heads of q, k and v
	params := make([]Param, 0, len(tensors))
	for _, t := range tensors {
		switch t.Role {
		case FusedQKV:
			if kv := a.LayerKV(t.Layer); kv != of {
				of = kv
				q, k, v = layout.Rows(a.Heads, kv, a.HeadDim)
			}
			params = append(params, t.param(Q, q), t.param(K, k), t.param(V, v))
		case GateUp:
			gate, up := span(0, a.FFN), span(a.FFN, 2*a.FFN)
			if t.UpFirst {
				gate, up = up, gate
			}
			params = append(params, t.param(Gate, gate), t.param(Up, up))
		case QHeads, QB, KVA, KVB:
			params = append(params, a.At(t.Layer).latentParams(t)...)
		default:
			params = t.appendTo(params)
		}
	}
	return params, nil
}

// latentParams returns the weights that a tensor of latent attention is split into; those without rows are left out.
func (a *Arch) latentParams(t Tensor) (params []Param) {
	l := a.Latent
	for _, part := range map[Role][]struct {
		role Role
		rows []int
	}{
		QHeads: {{QNope, headRows(a.Heads, 0, l.NopeDim, l.RopeDim)}, {QRope, headRows(a.Heads, l.NopeDim, l.RopeDim, 0)}},
		QB:     {{QNope, headRows(a.Heads, 0, l.NopeDim, l.RopeDim)}, {QRope, headRows(a.Heads, l.NopeDim, l.RopeDim, 0)}},
		KVA:    {{KRope, span(l.Rank, l.Rank+l.RopeDim)}, {LatentKV, span(0, l.Rank)}}, // so that rotary queries and keys are adjacent
		KVB:    {{KeyUp, headRows(a.Heads, 0, l.NopeDim, l.ValueDim)}, {ValueUp, headRows(a.Heads, l.NopeDim, l.ValueDim, 0)}},
	}[t.Role] {
		if len(part.rows) > 0 {
			params = append(params, t.param(part.role, part.rows))
		}
	}
	return params
}

// headRows returns n rows of each head, which has before rows before them and after rows after them.
func headRows(heads, before, n, after int) []int {
	rows := make([]int, 0, heads*n)
	for h := range heads {
		first := h*(before+n+after) + before
		rows = append(rows, span(first, first+n)...)
	}
	return rows
}

// span returns lo, lo+1, …, hi-1.
func span(lo, hi int) []int {
	rows := make([]int, 0, hi-lo)
	for r := lo; r < hi; r++ {
		rows = append(rows, r)
	}
	return rows
}

// appendTo appends the tensor's weight, or a row to the weight begun by the tensors before it.
func (t Tensor) appendTo(params []Param) []Param {
	name := ParamName(t.Role, t.Layer, t.Bias)
	if last := len(params) - 1; t.Stacked && last >= 0 && params[last].Name == name {
		params[last].Parts = append(params[last].Parts, t.Name)
		params[last].Shape[0]++
		return params
	}
	p := t.param(t.Role, nil)
	if t.Stacked {
		p.Parts, p.Shape = []string{t.Name}, []int{1, t.Shape[0]}
		p.Stored = p.Shape
	}
	return append(params, p)
}

// IsNorm reports whether the weight is a norm's weight or bias.
func (p Param) IsNorm() bool { return p.Role.IsNorm() }

// Tensors returns the names of the checkpoint's tensors that hold the weight.
func (p Param) Tensors() []string {
	if p.Parts != nil {
		return p.Parts
	}
	return []string{p.Tensor}
}

func (t Tensor) param(role Role, rows []int) Param {
	shape := slices.Clone(t.Shape)
	if t.Transposed {
		slices.Reverse(shape)
	}
	if rows != nil {
		shape[0] = len(rows)
	}
	name, kvHeads := ParamName(role, t.Layer, t.Bias), t.KVHeads
	if t.Encoder {
		name = EncoderPrefix + name
	}
	if role == Q {
		kvHeads = 0 // it shares a tensor with weights that have KV heads
	}
	return Param{
		Name: name, Role: role, Layer: t.Layer, Bias: t.Bias, Shape: shape, Tensor: t.Name, Stored: t.Shape, Rows: rows, Transposed: t.Transposed,
		KVHeads: kvHeads,
	}
}

// EncoderPrefix is the prefix of the names of an encoder's weights in an encoder-decoder model.
const EncoderPrefix = "encoder."

// ParamName returns the forward pass's name of a weight or bias; layer is -1 outside the layers.
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

// Size returns the number of elements of the weight.
func (p Param) Size() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}
