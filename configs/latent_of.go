package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// CheckLatent returns the reason why the attention of a cannot become latent attention in the own layout.
func (a *Arch) CheckLatent() error {
	family := a.Family.Name
	switch {
	case a.IsLatent():
		return errors.New("its attention is latent already")
	case a.EncoderLayers > 0 || !a.Causal:
		return fmt.Errorf("family %s is not a decoder", family)
	case a.Position != PositionRope:
		return fmt.Errorf("family %s has %s positions, not rotary ones", family, a.Position)
	case a.Has(QNorm) || a.Has(KNorm):
		return fmt.Errorf("family %s normalises queries and keys, so keys are not linear in what a latent is made of", family)
	case a.ClipQKV > 0:
		return fmt.Errorf("family %s clips queries, keys and values, so they are not linear in what a latent is made of", family)
	case a.Rope.LongInvFreq() != nil:
		return errors.New("its rotary frequencies (longrope) change with the length of a sequence")
	case a.ScaleByLayer:
		return errors.New("its scores are divided by the number of the layer")
	}
	return nil
}

// LayerInvFreq returns the inverse frequencies of the rotary planes of a layer with grouped attention, and the factor for cosines and
// sines.
func (a *Arch) LayerInvFreq(layer int) (freqs []float64, scale float64) {
	rope := a.Rope
	if a.WindowRope != nil && a.LayerWindow(layer) > 0 {
		rope = *a.WindowRope
	}
	return rope.InvFreq(), rope.Scale()
}

// WithLatent returns a with latent attention in the own layout, as LatentChanges describes it. config is a's config.json; biased lists
// the attention's roles that have a bias.
func (a *Arch) WithLatent(config []byte, layers []Latent, scale float64, biased ...Role) (*Arch, error) {
	changes, err := a.LatentChanges(config, layers, scale)
	if err != nil {
		return nil, err
	}
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	ChangeKeys(raw, changes)
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	b, err := Resolve(text, "")
	if err != nil {
		return nil, err
	}
	b.Prefix, b.oldNorms, b.absent, b.untied, b.Tied, b.Headless, b.FFN = a.Prefix, a.oldNorms, a.absent, a.untied, a.Tied, a.Headless, a.FFN
	b.biased = map[Role]bool{}
	maps.Copy(b.biased, a.biased)
	for _, role := range []Role{QHeads, QA, QB, KVA, O} {
		b.biased[role] = slices.Contains(biased, role)
	}
	b.LatentLayers = slices.Clone(layers)
	return b, nil
}

// ChangeKeys sets the top-level keys of a config.json, or removes those that are nil.
func ChangeKeys(config, changes map[string]any) {
	for key, value := range changes {
		if value == nil {
			delete(config, key)
		} else {
			config[key] = value
		}
	}
}
