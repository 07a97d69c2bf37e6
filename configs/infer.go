package configs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Infer writes the config.json of a checkpoint that has none, from its family, its number of heads and its tensors' shapes.
// Sizes come from the shapes; what no shape tells (norm epsilon, rope theta …) takes the class's defaults.
func Infer(family string, heads int, shapes map[string][]int) ([]byte, error) {
	f, err := familyOf(family, nil)
	if err != nil {
		return nil, err
	}
	if heads < 1 {
		return nil, fmt.Errorf("heads is %d, want the checkpoint's number of query heads", heads)
	}
	sizes := map[string]int{"heads": heads}
	for _, prefix := range f.Prefixes {
		f.inferModel(prefix, shapes, sizes)
		if sizes["layers"] > 0 {
			break
		}
	}
	if sizes["layers"] == 0 {
		return nil, fmt.Errorf("no tensor is named as family %s names its layers (such as %s)", f.Name, exampleName(f))
	}
	if q, ok := sizes["q_dim"]; ok {
		sizes["head_dim"] = q / heads
	} else if sizes["dim"] > 0 {
		sizes["head_dim"] = sizes["dim"] / heads
	}
	if hd := sizes["head_dim"]; hd > 0 && sizes["kv_dim"] > 0 {
		sizes["kv_heads"] = sizes["kv_dim"] / hd
	}
	return json.MarshalIndent(f.inferredConfig(sizes, shapes), "", "  ")
}

// inferModel takes every size that stands alone as a dimension of a tensor that is there.
func (f *Family) inferModel(prefix string, shapes map[string][]int, sizes map[string]int) {
	learn := func(e TensorEntry, layer int) bool {
		name := strings.NewReplacer("{prefix}", prefix, "{layer}", strconv.Itoa(layer)).Replace(e.Name)
		got, ok := shapes[name+".weight"]
		if !ok || len(got) != len(e.Shape) {
			return ok
		}
		for i, symbol := range e.Shape {
			if e.Transposed {
				symbol = e.Shape[len(e.Shape)-1-i]
			}
			sizes[symbol] = got[i]
		}
		return true
	}
	for _, e := range f.Tensors {
		learn(e, -1)
	}
	for layer := 0; ; layer++ {
		found := false
		for _, e := range f.Layer {
			found = learn(e, layer) || found
		}
		if !found {
			sizes["layers"] = layer
			return
		}
	}
}

func (f *Family) inferredConfig(sizes map[string]int, shapes map[string][]int) map[string]any {
	config := map[string]any{"model_type": f.ModelTypes[0]}
	if f.Groups.Class != "" {
		config["architectures"] = []string{f.Groups.Class}
	}
	for name, field := range f.Config {
		if v, ok := sizes[name]; ok && len(field.Keys) > 0 {
			config[field.Keys[0]] = v
		}
	}
	for field, entry := range map[string]TensorEntry{"tied": f.Tensors[Head]} {
		if keys := f.Config[field].Keys; len(keys) > 0 && entry.Unless == field {
			_, hasHead := shapes[entry.Name+".weight"]
			config[keys[0]] = !hasHead
		}
	}
	for _, e := range f.Layer {
		if keys := f.Config[e.Bias].Keys; len(keys) > 0 {
			_, hasBias := shapes[strings.NewReplacer("{prefix}", f.Prefixes[0], "{layer}", "0").Replace(e.Name)+".bias"]
			config[keys[0]] = hasBias
		}
	}
	return config
}

func exampleName(f *Family) string {
	for _, role := range layerRoles {
		if e, ok := f.Layer[role]; ok {
			return strings.NewReplacer("{prefix}", f.Prefixes[0], "{layer}", "0").Replace(e.Name) + ".weight"
		}
	}
	return f.Name
}
