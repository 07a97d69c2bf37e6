package configs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// stockLatent is the family whose class of transformers has latent attention in dense layers.
const stockLatent = "deepseek_v3"

// WithStockLatent returns a with latent attention of the sizes l in the class DeepseekV3ForCausalLM, and its config.json: source, a's, with
// the sizes in that class's keys. biased says whether what the latent and the output are computed with has a bias. It is an error, which
// names the reason, if the class cannot express a's other blocks.
func (a *Arch) WithStockLatent(source []byte, l Latent, biased bool) (*Arch, []byte, error) {
	families, err := Families()
	if err != nil {
		return nil, nil, err
	}
	raw, err := parseConfig(source)
	if err != nil {
		return nil, nil, err
	}
	f := families[stockLatent]
	config := a.render(f, raw)
	ChangeKeys(config, map[string]any{
		"num_key_value_heads": a.Heads, "first_k_dense_replace": a.Layers, "attention_bias": biased, "rope_interleave": true,
		"kv_lora_rank": l.Rank, "qk_rope_head_dim": l.RopeDim, "qk_nope_head_dim": l.NopeDim, "v_head_dim": l.ValueDim, "head_dim": l.RopeDim,
	})
	config["q_lora_rank"] = nil // the class's default is another
	text, err := json.Marshal(config)
	if err != nil {
		return nil, nil, err
	}
	b, err := Resolve(text, f.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Groups.Class, err)
	}
	return b, text, a.fitsStock(b)
}

// fitsStock checks that a and b compute the same but for the attention.
func (a *Arch) fitsStock(b *Arch) error {
	windows := 0
	for l := range a.Layers {
		windows = max(windows, a.LayerWindow(l))
	}
	for _, c := range []struct {
		what string
		a, b any
	}{
		{"norm", a.Norm, b.Norm},
		{"norm epsilon", a.NormEps, b.NormEps},
		{"number added to the norms' weights", a.NormOffset, b.NormOffset},
		{"MLP", a.MLP, b.MLP},
		{"activation", activationName(a.Activation), activationName(b.Activation)},
		{"residual", a.Residual, b.Residual},
		{"sliding window", windows, 0},
		{"scales", [3]float64{a.EmbedScale, a.ResidualScale, a.LogitScale}, [3]float64{b.EmbedScale, b.ResidualScale, b.LogitScale}},
		{"vocabulary", a.Vocab, b.Vocab},
		{"ffn", a.FFN, b.FFN},
		{"context", a.Context, b.Context},
		{"tied head", a.Tied, b.Tied},
	} {
		if !reflect.DeepEqual(c.a, c.b) {
			return fmt.Errorf("%s: %s is %v there, %v here", b.class(), c.what, c.b, c.a)
		}
	}
	return a.otherRolesFit(b)
}

// otherRolesFit checks that a and b have the same weights outside attention, and that a's queries have no bias.
func (a *Arch) otherRolesFit(b *Arch) error {
	ours, err := a.Params()
	if err != nil {
		return err
	}
	theirs, err := b.Params()
	if err != nil {
		return err
	}
	outside := func(all []Param) (names []string) {
		for _, p := range all {
			if !p.Role.IsAttention() && p.Role != KVANorm {
				names = append(names, fmt.Sprint(p.Name, " ", p.Shape))
			}
		}
		slices.Sort(names)
		return names
	}
	for _, p := range ours {
		if p.Role == Q && p.Bias {
			return fmt.Errorf("%s: has no biases of queries, and this model has", b.class())
		}
	}
	x, y := outside(ours), outside(theirs)
	for _, name := range x {
		if !slices.Contains(y, name) {
			return fmt.Errorf("%s: has no %s", b.class(), name)
		}
	}
	for _, name := range y {
		if !slices.Contains(x, name) {
			return fmt.Errorf("%s: requires a %s, which this model lacks", b.class(), name)
		}
	}
	return nil
}
