// Package golden provides the reference cases under testdata to tests: for each family, a tiny random multi-head checkpoint
// saved by Hugging Face transformers 5.17, with transformers' own results (golden.safetensors):
//
//	input_ids    [B,T]    int64
//	decoder_input_ids     input of the decoder, if there is an encoder, which then reads input_ids
//	logits_mha   [B,T,V]  of the unchanged checkpoint
//	logits_gG    [B,T,V]  with the K/V heads mean-pooled into G = 1, 2, 4 (or 3) contiguous groups
//	train_loss   [6]      losses before each of six AdamW steps on the G = 2 model, if the family's class supports it
//	grad_norm    [6]      and the gradient norms before clipping
//	…_mha        [6]      the same for the unchanged checkpoint, in some cases
//
// and gqa-gG/, the converted checkpoint as saved by the family's own class. The steps are AdamW with lr 1e-3, betas 0.9 and
// 0.95, eps 1e-8, weight decay 0.1 on every parameter, gradients clipped to norm 1, next-token cross-entropy over input_ids.
package golden

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// Tolerance is the largest difference of a logit that a different order of f32 operations explains; the logits'
// standard deviation is 1.5.
const Tolerance = 2e-4

// Case is the test case of one family.
type Case struct {
	Name string
	Dir  string // folder of the checkpoint
	IDs  [][]int32
	// Source is the input of the encoder, if there is one; IDs are then the decoder's.
	Source [][]int32

	results *checkpoints.Checkpoint
}

// Cases opens all cases.
func Cases(t testing.TB) []*Case {
	t.Helper()
	entries, err := os.ReadDir(root())
	if err != nil {
		t.Fatal(err)
	}
	var cases []*Case
	for _, e := range entries {
		cases = append(cases, Named(t, e.Name()))
	}
	return cases
}

// SampleReference returns transformers' results for the embedded sample: input_ids [1, 64], logits [1, 64, 2048], and
// greedy_ids [1, 96], a prompt of 32 tokens and its greedy continuation.
func SampleReference(t testing.TB) *checkpoints.Checkpoint {
	t.Helper()
	const name = "reference.safetensors"
	data, err := sample.File(name)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := checkpoints.Read(name, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// root returns the folder of the cases.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "testdata")
}

// Named opens the case with the given name.
func Named(t testing.TB, name string) *Case {
	t.Helper()
	dir := filepath.Join(root(), name)
	results, err := checkpoints.Open(filepath.Join(dir, "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { results.Close() })
	c := &Case{Name: name, Dir: dir, results: results}
	c.IDs = c.sequences(t, "input_ids")
	if c.Has("decoder_input_ids") {
		c.Source, c.IDs = c.IDs, c.sequences(t, "decoder_input_ids")
	}
	return c
}

// sequences reads a tensor of token IDs [B,T].
func (c *Case) sequences(t testing.TB, tensor string) (rows [][]int32) {
	t.Helper()
	ids, ok := c.results.Tensor(tensor)
	if !ok {
		t.Fatalf("%s: no %s", c.Name, tensor)
	}
	wide, err := ids.Int64()
	if err != nil {
		t.Fatal(err)
	}
	for b := range ids.Shape[0] {
		row := make([]int32, ids.Shape[1])
		for i := range row {
			row[i] = int32(wide[b*len(row)+i])
		}
		rows = append(rows, row)
	}
	return rows
}

// Batch returns the input of the case.
func (c *Case) Batch() ops.Batch {
	b := ops.NewBatch(c.IDs...)
	if c.Source != nil {
		source := ops.NewBatch(c.Source...)
		b.Source = &source
	}
	return b
}

// Groups returns the group counts of the case's logits_gG tensors.
func (c *Case) Groups() []int {
	var groups []int
	for g := 1; g <= 8; g++ {
		if c.Has(fmt.Sprintf("logits_g%d", g)) {
			groups = append(groups, g)
		}
	}
	return groups
}

// Has reports whether the case has a result with that name.
func (c *Case) Has(name string) bool {
	_, ok := c.results.Tensor(name)
	return ok
}

// Floats returns one of transformers' results.
func (c *Case) Floats(t testing.TB, name string) []float32 {
	t.Helper()
	r, ok := c.results.Tensor(name)
	if !ok {
		t.Fatalf("%s: no %s", c.Name, name)
	}
	values, err := r.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// Open opens a checkpoint until the end of the test.
func Open(t testing.TB, dir string) *weights.Source {
	t.Helper()
	src, err := weights.Open(dir, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// Load opens a checkpoint and reads all its weights, in f32, keyed by the forward pass's names.
func Load(t testing.TB, dir string) (*weights.Source, map[string][]float32) {
	t.Helper()
	src := Open(t, dir)
	all, err := src.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return src, all
}
