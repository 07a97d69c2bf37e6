package model

import "gqa/configs"

// Weights passes a model's weights to receive in f32, one at a time, in the order of Arch.Params. receive owns the
// values. Weights stops at the first error, its own or of receive, and returns it.
type Weights func(receive func(p configs.Param, values []float32) error) error

// FromMap returns the weights in a map by name; missing ones are skipped.
func FromMap(arch *configs.Arch, all map[string][]float32) Weights {
	return func(receive func(p configs.Param, values []float32) error) error {
		params, err := arch.Params()
		for _, p := range params {
			if values, ok := all[p.Name]; ok && err == nil {
				err = receive(p, values)
			}
		}
		return err
	}
}
