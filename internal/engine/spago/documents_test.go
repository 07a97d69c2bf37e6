package spago

import (
	"math"
	"slices"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/cpu/cputest"
	"gqa/internal/data"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// starts marks the first token of a document.
const starts = 1 << 30

// documentStarts are where documents begin in the windows of packedWindows.
var documentStarts = [][]int{{0, 4, 5}, {0, 9}}

// packedWindows returns windows of 11 tokens with several documents; the first window begins within one.
func packedWindows() [][]int32 {
	windows := golden.Windows(5, 2, 11, 40)
	for i, at := range documentStarts {
		for _, from := range at[min(1, 1-i):] {
			windows[i][from] |= starts
		}
	}
	return windows
}

// TestPackedDocuments: the loss and the gradients of packed documents are those of each document alone, and so are an inference engine's
// hidden states.
func TestPackedDocuments(t *testing.T) {
	configs := map[string]string{
		"mistral": `{"model_type": "mistral", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
			"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16, "sliding_window": 3}`,
		"bloom": `{"model_type": "bloom", "vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4}`,
	}
	for name, config := range golden.Tiny {
		configs[name] = config
	}
	windows := packedWindows()
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			packed, all := tinyTrainer(t, config, func(*recipe.Optimizer) {})
			b, targets := data.Packed{}.Batch(windows)
			loss, err := packed.Accumulate(b, targets, nil, 1)
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := loss.Read()
			decoder, err := infer.Build(cpu.New(), infer.Formats{}, packed.model.Arch, model.FromMap(packed.model.Arch, all))
			if err != nil {
				t.Fatal(err)
			}
			hidden := slices.Clone(decoder.Hidden(b).F32())

			alone, _ := tinyTrainer(t, config, func(*recipe.Optimizer) {})
			count, want := 0, 0.0
			for _, target := range targets {
				if target >= 0 {
					count++
				}
			}
			if count != 2*11-5 {
				t.Fatalf("%d targets", count)
			}
			for i, w := range windows {
				for d, from := range documentStarts[i] {
					to := append(slices.Clone(documentStarts[i]), len(w))[d+1]
					ids := data.IDs(w[from:to])
					one := ops.NewBatch(ids)
					each := hidden[(i*len(w)+from)*32 : (i*len(w)+to)*32]
					cputest.Compare(t, "hidden states", each, decoder.Hidden(one).F32(), 1e-5)
					if len(ids) == 1 {
						continue
					}
					loss, err := alone.Accumulate(one, append(slices.Clone(ids[1:]), -1), nil, float32(len(ids)-1)/float32(count))
					if err != nil {
						t.Fatal(err)
					}
					value, _, _ := loss.Read()
					want += value
				}
			}
			if math.Abs(got-want) > 2e-6 {
				t.Errorf("loss %v, want %v", got, want)
			}
			for i, s := range packed.optimizer.slots {
				other := alone.optimizer.slots[i]
				cputest.Compare(t, s.name, Grad(s.param).F32(), Grad(other.param).F32(), 2e-6)
			}
		})
	}
}
