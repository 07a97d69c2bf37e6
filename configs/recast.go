package configs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"gqa/internal/activation"
)

// Recast returns the architecture of family f that computes the same as a, and its config.json: source with its sizes
// in the keys of f. It is an error, which names the reason, if f's blocks cannot express a. The new architecture may
// have biases of zeros and weights of ones, lack the rows before position 0, have the norms of parallel blocks folded
// into the linears that read them, and number the rotary planes differently: see Folds, SkippedPositions and the fields
// of both.
func (a *Arch) Recast(f *Family, source []byte) (*Arch, []byte, error) {
	raw, err := parseConfig(source)
	if err != nil {
		return nil, nil, err
	}
	config, err := json.Marshal(a.render(f, raw))
	if err != nil {
		return nil, nil, err
	}
	b, err := Resolve(config, f.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Grouping(a.KVHeads).Class, err)
	}
	b.biasAll()
	return b, config, a.fits(b)
}

// SkippedPositions returns the number of rows at the start of a's learned positions, used by no token, that b lacks.
func (a *Arch) SkippedPositions(b *Arch) int { return a.PositionOffset - b.PositionOffset }

// Folds reports whether a's parallel blocks have one norm each and b's share one: then the norms' weights are folded
// into the linears that read them, and b's norm has no weights.
func (a *Arch) Folds(b *Arch) bool {
	return a.Residual == Parallel && a.Has(MLPNorm) && !b.Has(MLPNorm)
}

// render writes a's fields under f's keys, and keeps the keys that do not concern the architecture.
func (a *Arch) render(f *Family, source map[string]any) map[string]any {
	config := map[string]any{}
	for _, key := range baseKeys {
		if v, ok := source[key]; ok && key != "auto_map" && key != LayersKey {
			config[key] = v
		}
	}
	config["model_type"], config["architectures"] = f.ModelTypes[0], []string{f.Grouping(a.KVHeads).Class}
	values := a.values()
	for _, k := range fields {
		field, value := f.Config[k.name], values[k.name]
		if value != nil && field.As == "" {
			field.write(config, value)
		}
	}
	if a.Position == PositionRope {
		a.renderRope(f, config, source)
	}
	setKeys(config, f.Recast)
	if g := f.Grouping(a.KVHeads); a.KVHeads < a.Heads {
		SetKey(config, g.Key, a.KVHeads)
		setKeys(config, g.Set)
	}
	return config
}

// write sets the first key of a field and, if that is nested, also the top-level key that older releases read.
func (field Field) write(config map[string]any, value any) {
	for name, meant := range field.Values {
		if fmt.Sprint(value) == meant {
			value = name
			if name == "true" || name == "false" {
				value = name == "true"
			}
			break
		}
	}
	for _, key := range field.Keys {
		SetKey(config, key, value)
		if key == topKey(key) {
			return
		}
	}
}

// renderRope writes the scaling of rotary positions, in the source's spelling.
func (a *Arch) renderRope(f *Family, config, source map[string]any) {
	for _, key := range f.Config["rope_scaling"].Keys {
		object, ok := config[key].(map[string]any)
		if !ok {
			continue
		}
		object["rope_type"] = "default"
		for _, from := range a.Family.Config["rope_scaling"].Keys {
			said, _ := source[from].(map[string]any)
			for name, value := range said {
				if _, written := object[name]; !written || name == "rope_type" {
					object[name] = value
				}
			}
		}
		return
	}
}

// values returns a's fields by their names in family files; nil where a family's default is to be used.
func (a *Arch) values() map[string]any {
	values := map[string]any{
		"vocab": a.Vocab, "dim": a.Dim, "layers": a.Layers, "heads": a.Heads, "kv_heads": a.KVHeads, "ffn": a.FFN,
		"context": a.Context, "norm_eps": a.NormEps, "tied": a.Tied, "qk_norm": a.Has(QNorm), "scale_scores": a.ScaleScores,
		"scale_by_layer": a.ScaleByLayer, "activation": activationName(a.Activation), "residual": string(a.Residual),
		"attn_bias": a.AttnBias, "mlp_bias": a.MLPBias, "position": string(a.Position),
	}
	if a.Padding >= 0 {
		values["padding"] = a.Padding
	}
	if a.HeadDim*a.Heads != a.Dim {
		values["head_dim"] = a.HeadDim
	}
	if a.ClipQKV != 0 {
		values["clip_qkv"] = a.ClipQKV
	}
	if a.Position == PositionRope {
		values["rope_theta"] = a.Rope.Theta
		values["rope_dim"], values["rope_fraction"] = a.Rope.Dim, float64(a.Rope.Dim)/float64(a.HeadDim)
	}
	return values
}

// activationName returns transformers' shortest name for an activation function, gelu_new for GELUTanh.
func activationName(act activation.Func) string {
	if act == activation.GELUTanh {
		return "gelu_new"
	}
	names := slices.Sorted(maps.Keys(activations))
	return names[slices.IndexFunc(names, func(n string) bool { return activations[n] == act })]
}

// fits checks that a and b compute the same.
func (a *Arch) fits(b *Arch) error {
	windows := func(x *Arch) (all []int) {
		for l := range x.Layers {
			all = append(all, x.LayerWindow(l))
		}
		return all
	}
	for _, c := range []struct {
		what string
		a, b any
	}{
		{"vocabulary", a.Vocab, b.Vocab},
		{"dim", a.Dim, b.Dim},
		{"layers", a.Layers, b.Layers},
		{"heads", a.Heads, b.Heads},
		{"KV heads", a.KVHeads, b.KVHeads},
		{"head dim", a.HeadDim, b.HeadDim},
		{"width of embeddings", cmp.Or(a.EmbedDim, a.Dim), cmp.Or(b.EmbedDim, b.Dim)},
		{"ffn", a.FFN, b.FFN},
		{"context", a.Context, b.Context},
		{"norm epsilon", a.NormEps, b.NormEps},
		{"tied head", a.Tied, b.Tied},
		{"scaling of scores", [3]any{a.ScaleScores, a.ScaleByLayer, a.ScoreScale}, [3]any{b.ScaleScores, b.ScaleByLayer, b.ScoreScale}},
		{"clipping of queries, keys and values", a.ClipQKV, b.ClipQKV},
		{"scales", [3]float64{a.EmbedScale, a.ResidualScale, a.LogitScale}, [3]float64{b.EmbedScale, b.ResidualScale, b.LogitScale}},
		{"windows", windows(a), windows(b)},
		{"norm", a.Norm, b.Norm},
		{"MLP", a.MLP, b.MLP},
		{"residual", a.Residual, b.Residual},
		{"positions", a.Position, b.Position},
		{"activation", a.Activation, b.Activation},
		{"rotary frequencies", a.frequencies(), b.frequencies()},
	} {
		if !reflect.DeepEqual(c.a, c.b) {
			return fmt.Errorf("%s: %s is %v there, %v here", b.class(), c.what, c.b, c.a)
		}
	}
	if a.Has(QNorm) && a.RopeInterleaved != b.RopeInterleaved {
		return fmt.Errorf("%s: the planes that norms of queries and keys see are others", b.class())
	}
	if !reflect.DeepEqual(a.core(), b.core()) { // a block not listed above
		return fmt.Errorf("%s: computes something else", b.class())
	}
	return a.rolesFit(b)
}

// class returns transformers' name for the architecture.
func (a *Arch) class() string { return a.Family.Grouping(a.KVHeads).Class }

// core returns a without the fields that may differ between spellings of the same function.
func (a *Arch) core() Arch {
	c := *a
	c.Family, c.Prefix, c.Unknown, c.bools, c.grouped = nil, "", nil, nil, false
	c.AttnBias, c.MLPBias, c.NormOffset, c.RopeInterleaved, c.Rope, c.WindowRope = false, false, 0, false, Rope{}, nil
	c.Window, c.windowFrom, c.layerTypes = 0, 0, nil
	c.EmbedDim, c.PositionOffset, c.Padding, c.biased = 0, 0, 0, nil
	if c.Position != PositionALiBi {
		c.ALiBi = ALiBi{}
	}
	return c
}

func (a *Arch) frequencies() []float64 {
	if a.Position != PositionRope {
		return nil
	}
	ropes := []Rope{a.Rope}
	if a.WindowRope != nil {
		ropes = append(ropes, *a.WindowRope)
	}
	var all []float64
	for _, r := range ropes {
		all = append(all, math.Round(r.Scale()*1e9)/1e9)
		for _, f := range r.InvFreq() {
			all = append(all, float64(float32(f)))
		}
	}
	return all
}

// rolesFit checks that b can hold every weight of a.
func (a *Arch) rolesFit(b *Arch) error {
	ours, err := a.Params()
	if err != nil {
		return err
	}
	theirs, err := b.Params()
	if err != nil {
		return err
	}
	want := map[string]Param{}
	for _, p := range theirs {
		want[p.Name] = p
	}
	for _, p := range ours {
		to, ok := want[p.Name]
		if p.Role == MLPNorm && a.Folds(b) {
			continue
		}
		if p.Role == Positions && a.SkippedPositions(b) > 0 {
			p.Shape = []int{p.Shape[0] - a.SkippedPositions(b), p.Shape[1]}
		}
		if !ok || !slices.Equal(to.Shape, p.Shape) {
			return fmt.Errorf("%s: has no %s %v", b.class(), p.Name, p.Shape)
		}
		delete(want, p.Name)
	}
	for _, p := range theirs {
		if _, left := want[p.Name]; left && !p.Bias && !(p.IsNorm() && a.Has(p.Role)) {
			return fmt.Errorf("%s: requires a %s, which this model lacks", b.class(), p.Name)
		}
	}
	return nil
}
