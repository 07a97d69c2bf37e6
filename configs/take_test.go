package configs

import (
	"math"
	"slices"
	"testing"
)

func TestTake(t *testing.T) {
	// Stored row-major; a weight's rows may be anywhere, and stored as columns.
	for name, c := range map[string]struct {
		p            Param
		stored, want []float32
	}{
		"whole":           {Param{Shape: []int{2, 3}, Stored: []int{2, 3}}, []float32{1, 2, 3, 4, 5, 6}, []float32{1, 2, 3, 4, 5, 6}},
		"vector":          {Param{Shape: []int{3}, Stored: []int{3}}, []float32{1, 2, 3}, []float32{1, 2, 3}},
		"rows":            {Param{Shape: []int{2, 2}, Stored: []int{3, 2}, Rows: []int{2, 0}}, []float32{1, 2, 3, 4, 5, 6}, []float32{5, 6, 1, 2}},
		"bias rows":       {Param{Shape: []int{2}, Stored: []int{4}, Rows: []int{3, 1}}, []float32{1, 2, 3, 4}, []float32{4, 2}},
		"transposed":      {Param{Shape: []int{3, 2}, Stored: []int{2, 3}, Transposed: true}, []float32{1, 2, 3, 4, 5, 6}, []float32{1, 4, 2, 5, 3, 6}},
		"transposed rows": {Param{Shape: []int{2, 2}, Stored: []int{2, 3}, Rows: []int{1, 2}, Transposed: true}, []float32{1, 2, 3, 4, 5, 6}, []float32{2, 5, 3, 6}},
		"transposed bias": {Param{Shape: []int{2}, Stored: []int{3}, Rows: []int{1, 2}, Transposed: true}, []float32{1, 2, 3}, []float32{2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			kept := slices.Clone(c.stored)
			got := c.p.Take(c.stored)
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			for i := range got {
				got[i] = 0 // a copy
			}
			if !slices.Equal(c.stored, kept) {
				t.Errorf("the stored tensor turned to %v", c.stored)
			}
		})
	}
}

// TestTakePut splits every family's weights, ungrouped and grouped, and reassembles them bit for bit.
func TestTakePut(t *testing.T) {
	for _, config := range []string{
		`{"model_type": "llama", "vocab_size": 5, "hidden_size": 12, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 6,
			"head_dim": 4, "attention_bias": true}`,
		`{"model_type": "gpt_neox", "vocab_size": 5, "hidden_size": 12, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 6}`,
		`{"model_type": "gpt2", "vocab_size": 5, "n_embd": 12, "n_layer": 2, "n_head": 6, "n_positions": 3}`,
	} {
		whole := resolve(t, config)
		for _, groups := range whole.LegalGroups() {
			a := whole.WithKVHeads(groups)
			params, err := a.Params()
			if err != nil {
				t.Fatal(err)
			}
			stored, rebuilt := map[string][]float32{}, map[string][]float32{}
			tensors, err := a.Tensors()
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range tensors {
				values := make([]float32, Param{Shape: x.Shape}.Size())
				for i := range values {
					values[i] = float32(len(stored)*10000 + i)
				}
				stored[x.Name], rebuilt[x.Name] = values, slices.Repeat([]float32{float32(math.NaN())}, len(values))
			}
			for _, p := range params {
				p.Put(rebuilt[p.Tensor], p.Take(stored[p.Tensor]))
			}
			for name, want := range stored {
				if !slices.Equal(rebuilt[name], want) {
					t.Errorf("%s with %d KV heads: %s changed", a.Family.Name, groups, name)
				}
			}
		}
	}
}
