package target

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"gqa/internal/golden"
	"gqa/internal/weights"
)

// TestRecastByRows: rows copied from one file to the other equal what is computed in memory, and no large matrix is in
// memory.
func TestRecastByRows(t *testing.T) {
	const gptj = `{"model_type": "gptj", "vocab_size": 6, "n_embd": 32, "n_layer": 2, "n_head": 8, "n_positions": 32, "rotary_dim": %d,
		"n_inner": 40, "activation_function": "relu", "num_key_value_heads": 2}`
	for _, config := range []string{
		`{"model_type": "gpt_neox", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2,
			"num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 32}`,
		fmt.Sprintf(gptj, 2), fmt.Sprintf(gptj, 4),
		`{"model_type": "opt", "vocab_size": 6, "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2,
			"num_attention_heads": 8, "num_key_value_heads": 2, "ffn_dim": 5, "max_position_embeddings": 4, "eos_token_id": 2}`,
	} {
		own := golden.Open(t, golden.Random(t, config))
		to, keys, why := findNeighbour(own.Arch, own.Config)
		if to == nil {
			t.Fatal(why)
		}
		n, err := newNeighbour(Unchanged(t, own), to, keys)
		if err != nil {
			t.Fatal(err)
		}
		r, err := newRecast(own, to)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range n.layout.Specs {
			parts, err := r.byRows(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if (parts != nil) != (len(s.Shape) == 2) {
				t.Errorf("%s %v by rows: %v", s.Name, s.Shape, parts != nil)
			}
			want, err := r.tensor(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			var got, computed bytes.Buffer
			if err := errors.Join(r.writeTensor(t.Context(), s, &got), weights.WriteFloats(&computed, want, s.DType)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), computed.Bytes()) {
				t.Errorf("%s differs from what is computed in memory", s.Name)
			}
		}
	}
}
