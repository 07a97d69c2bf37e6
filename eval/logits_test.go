package eval

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
)

func readLogits(t *testing.T, path string) ([]float32, []int) {
	t.Helper()
	c, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, ok := c.Tensor("logits")
	if !ok || len(c.Names()) != 1 || l.DType != checkpoints.F32 {
		t.Fatalf("%s has %v, want logits in F32 alone", path, c.Names())
	}
	values, err := l.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(values), l.Shape
}

// The files with transformers' logits also hold the ids, so the two implementations are compared as a user would compare
// them.
func TestWriteLogits(t *testing.T) {
	for _, c := range golden.Cases(t) {
		m, want := mustLoad(t, c.Dir), c.Floats(t, "logits_mha")
		for _, stepwise := range []bool{false, true} {
			if stepwise && !m.Arch.Causal {
				continue
			}
			for _, m.headRows = range []int{1 << 20, 7} {
				path := filepath.Join(t.TempDir(), "logits.safetensors")
				if err := WriteLogits(t.Context(), m, filepath.Join(c.Dir, "golden.safetensors"), path, stepwise); err != nil {
					t.Fatal(err)
				}
				got, shape := readLogits(t, path)
				if !slices.Equal(shape, []int{len(c.IDs), len(c.IDs[0]), m.Arch.Vocab}) || len(got) != len(want) {
					t.Fatalf("%s: shape %v, %d values; want %d", c.Name, shape, len(got), len(want))
				}
				short := 0 // tokens whose logits change as the sequence grows long
				if stepwise && m.Arch.Rope.LongInvFreq() != nil {
					short = int(m.Arch.Rope.OriginalContext)
				}
				for i := range got {
					if token := i / m.Arch.Vocab % len(c.IDs[0]); token >= short && !(math.Abs(float64(got[i])-float64(want[i])) <= golden.Tolerance) {
						t.Fatalf("%s, stepwise %v: value %d is %v, want %v", c.Name, stepwise, i, got[i], want[i])
					}
				}
			}
		}
	}
}

// T5's logits are precise: stepwise logits equal those of one pass, which is not the case in f32, and later computations
// use f32 again.
func TestWriteLogitsPrecise(t *testing.T) {
	c := golden.Named(t, "t5")
	m := mustLoad(t, c.Dir)
	var forms [2][]float32
	for i := range forms {
		path := filepath.Join(t.TempDir(), "logits.safetensors")
		if err := WriteLogits(t.Context(), m, filepath.Join(c.Dir, "golden.safetensors"), path, i == 1); err != nil {
			t.Fatal(err)
		}
		forms[i], _ = readLogits(t, path)
	}
	if !slices.Equal(forms[0], forms[1]) {
		t.Error("one pass and steps give other bits")
	}
	if slices.Equal(forms[0], m.Logits(c.Batch()).F32()) {
		t.Error("sums stay in float64")
	}
}

func TestWriteLogitsReplaces(t *testing.T) {
	m, path := tiny(t, "llama"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := WriteLogits(t.Context(), m, writeIDs(t, []int64{1, 2, 3, 4, 5, 6}, []int{2, 3}, "input_ids"), path, false); err != nil {
		t.Fatal(err)
	}
	if _, shape := readLogits(t, path); !slices.Equal(shape, []int{2, 3, 128}) {
		t.Errorf("shape %v", shape)
	}
}

// Every error is one line, and nothing is written.
func TestWriteLogitsRefuses(t *testing.T) {
	m, learned := tiny(t, "llama"), tiny(t, "gpt2")
	ids := func(n int) []int64 { return make([]int64, n) }
	good := writeIDs(t, ids(6), []int{2, 3}, "input_ids")
	dir := t.TempDir()
	for _, c := range []struct {
		m           *Model
		input, file string
		want        string
	}{
		{m, "nowhere.safetensors", "out", "nowhere.safetensors: "},
		{m, m.Dir, "out", "there is no tensor input_ids; the file has "},
		{m, writeIDs(t, ids(6), []int{6}, "input_ids"), "out", "input_ids has shape [6], want [sequences, tokens]"},
		{m, writeIDs(t, ids(6), []int{1, 2, 3}, "input_ids"), "out", "input_ids has shape [1 2 3]"},
		{m, writeIDs(t, nil, []int{0, 3}, "input_ids"), "out", "input_ids has shape [0 3]"},
		{m, writeIDs(t, nil, []int{3, 0}, "input_ids"), "out", "input_ids has shape [3 0]"},
		{m, writeIDs(t, []int64{1, 128}, []int{1, 2}, "input_ids"), "out", "id 128 at 1 is outside the model's vocabulary of 128"},
		{m, writeIDs(t, []int64{-1, 1}, []int{1, 2}, "input_ids"), "out", "id -1 at 0 is outside"},
		{m, writeIDs(t, ids(2), []int{1, 2}, "input_ids", "decoder_input_ids"), "out", "family llama has no encoder"},
		{learned, writeIDs(t, ids(65), []int{1, 65}, "input_ids"), "out", "65 positions requested, but the model has 64"},
		{m, good, "no/out", "output: there is no folder " + filepath.Join(dir, "no")},
		{m, good, ".", "is a folder; name a file"},
	} {
		err := WriteLogits(t.Context(), c.m, c.input, filepath.Join(dir, c.file), false)
		wantError(t, c.want, err, c.want)
	}
	before, _ := os.ReadFile(good)
	wantError(t, "onto itself", WriteLogits(t.Context(), m, good, good, false), good+" is the input; name another file")
	wantError(t, "onto other tensors", WriteLogits(t.Context(), m, writeIDs(t, ids(6), []int{2, 3}, "input_ids"), good, false), good+" holds a tensor input_ids; only a file of logits is replaced")
	if after, _ := os.ReadFile(good); !slices.Equal(after, before) {
		t.Error("the input has changed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteLogits(ctx, m, good, filepath.Join(dir, "out"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := fs.Glob(os.DirFS(dir), "*"); err != nil || len(left) != 0 {
		t.Errorf("%v were left, %v", left, err)
	}
}
