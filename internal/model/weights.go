package model

import "gqa/configs"

// Weights hands out a model's weights in f32, one at a time, in the order of Arch.Params. What it hands out is the receiver's. It
// stops at an error, of its own or of the receiver's, and returns it.
type Weights func(receive func(p configs.Param, values []float32) error) error

// FromMap is weights by name; those that are missing are passed over.
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
