package golden_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/convert"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

const decoder, ownBias, sharedBias = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"

// untiedBERT returns BERT's case with a head of its own: a copy of the embedding, scaled, and biases as given. A nil bias is
// omitted.
func untiedBERT(t *testing.T, c *golden.Case, scale float32, shared, own []float32) (dir string) {
	t.Helper()
	src := golden.Open(t, c.Dir)
	tensors, shapes := map[string][]float32{}, map[string][]int{}
	for _, name := range src.Names() {
		x, _ := src.Tensor(name)
		values, err := x.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		tensors[name], shapes[name] = values, x.Shape
	}
	const embedding = "bert.embeddings.word_embeddings.weight"
	tensors[decoder], shapes[decoder] = scaled(tensors[embedding], scale, 0), shapes[embedding]
	for name, bias := range map[string][]float32{sharedBias: shared, ownBias: own} {
		if delete(tensors, name); bias != nil {
			tensors[name], shapes[name] = bias, []int{len(bias)}
		}
	}
	var specs []checkpoints.Spec
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		specs = append(specs, checkpoints.Spec{Name: name, DType: checkpoints.F32, Shape: shapes[name]})
	}
	dir = t.TempDir()
	err := checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		return weights.WriteFloats(w, tensors[s.Name], s.DType)
	})
	if err != nil {
		t.Fatal(err)
	}
	config := bytes.Replace(src.Config, []byte(`"tie_word_embeddings": true`), []byte(`"tie_word_embeddings": false`), 1)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// scaled returns x·scale + offset.
func scaled(x []float32, scale, offset float32) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = x[i]*scale + offset
	}
	return y
}

// TestUntiedBERT: an untied head with the embedding's values gives transformers' logits of the tied one, one twice as large
// other logits, each as its own file has them: transformers 4 saves one bias, 5 two, of which the decoder's counts.
func TestUntiedBERT(t *testing.T) {
	c := golden.Named(t, "bert")
	_, tied := golden.Load(t, c.Dir)
	bias := tied["head_bias.weight"]
	other := scaled(bias, -3, 1)
	for _, x := range []struct {
		name        string
		scale       float32
		shared, own []float32
		want        []float32 // the bias that counts
	}{
		{"one bias", 1, bias, nil, bias},
		{"a bias of its own beside the other", 1, other, bias, bias},
		{"a bias of its own alone", 1, nil, bias, bias},
		{"twice as large", 2, bias, nil, bias},
		{"twice as large with other biases", 2, bias, other, other},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := untiedBERT(t, c, x.scale, x.shared, x.own)
			for _, target := range []convert.Target{convert.Own, convert.Expanded} {
				for _, groups := range []int{2, 8} {
					name := map[int]string{2: "logits_g2", 8: "logits_mha"}[groups]
					want := slices.Clone(c.Floats(t, name))
					for i := range want {
						want[i] = (want[i]-bias[i%len(bias)])*x.scale + x.want[i%len(bias)]
					}
					got, all := golden.Load(t, convertTo(t, dir, convert.Options{Goal: convert.Groups(groups), Method: convert.Mean, Target: target}))
					compare(t, name, infer.New(cpu.New(), got.Arch, all).Logits(c.Batch()).F32(), want)
					for tensor, bias := range map[string][]float32{sharedBias: x.shared, ownBias: x.own} {
						if _, there := got.Tensor(tensor); there != (bias != nil) {
							t.Errorf("%s is in the result: %v", tensor, there)
						}
					}
				}
			}
		})
	}
}
