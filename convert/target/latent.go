package target

import (
	"encoding/json"
	"maps"

	"gqa/configs"
)

// newLatent lays r out with latent attention, as only this toolkit loads it. r.Arch has the sizes and frequencies of each layer.
func newLatent(r Result) (Target, error) {
	changes, err := r.Source.Arch.LatentChanges(r.Source.Config, r.Arch.LatentLayers, r.Arch.ScoreScale)
	if err != nil {
		return nil, err
	}
	t, err := newTensors(r, r.Arch)
	if err != nil {
		return nil, err
	}
	t.config = func(c map[string]any) { configs.ChangeKeys(c, changes) }
	t.layout.LoadsIn = []string{"gqa"}
	return t, nil
}

// newStockLatent lays r out for the class that r.Arch is of: r.Config is its config.json.
func newStockLatent(r Result) (Target, error) {
	var config map[string]any
	if err := json.Unmarshal(r.Config, &config); err != nil {
		return nil, err
	}
	t, err := newTensors(r, r.Arch)
	if err != nil {
		return nil, err
	}
	t.config = func(c map[string]any) {
		clear(c)
		maps.Copy(c, config)
	}
	t.layout.LoadsIn = []string{"gqa", r.Arch.Family.Grouping(r.Arch.KVHeads).Loader()}
	return t, nil
}
