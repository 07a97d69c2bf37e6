package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/convert/calibrate"
	"gqa/internal/golden"
)

const (
	keys   = "model.layers.1.self_attn.k_proj.weight"
	output = "model.layers.1.self_attn.o_proj.weight"
)

// poisoned is the data of a weight [16, 16] of llamaConfig in f32, ones but for x at [2, 5].
func poisoned(x float64) []byte {
	values := make([]float32, 16*16)
	for i := range values {
		values[i] = 1
	}
	values[2*16+5] = float32(x)
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return data
}

// logged runs f and returns what it logged.
func logged(t *testing.T, f func()) string {
	t.Helper()
	var out bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	f()
	return out.String()
}

// TestNotFiniteIsRefused: tensors used in a computation must be finite; the error names them, and no files remain.
func TestNotFiniteIsRefused(t *testing.T) {
	text := &calibrate.Data{IDs: []int32{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5}, Tokens: 12}
	for _, at := range []string{keys, output} {
		for _, x := range []float64{math.NaN(), math.Inf(-1)} {
			dir := model{config: llamaConfig, data: map[string][]byte{at: poisoned(x)}}.write(t)
			for _, o := range []Options{
				{Method: Align},
				{Method: Calibrated},
				{Method: Calibrated, Calibration: text},
				{Method: Mean, Grouping: Similar},
				{Method: First, Grouping: Similar},
				{Method: Calibrated, Grouping: Similar},
				{Method: Mean, Refine: 2, Calibration: text},
				{Method: Mean, DType: checkpoints.BF16},
				{Method: Mean},
				{Method: First},
				{Method: Random},
				{Method: Mean, Target: GGUF},
				{Method: Mean, Target: Expanded},
			} {
				if at == output && !o.Merges() && o.DType == 0 {
					continue // is copied
				}
				o.Goal = Groups(2)
				parent := t.TempDir()
				_, err := newPlan(t, dir, o).Run(t.Context(), filepath.Join(parent, "out"), RunOptions{})
				wantError(t, err, fmt.Sprintf("model.safetensors: tensor %q: %v at [2, 5]; the file is damaged", at, x))
				wantEmpty(t, parent)
			}
		}
	}
}

// TestNotFiniteIsCopied: other tensors are copied bit for bit, with one warning. A buffer is copied without a warning.
func TestNotFiniteIsCopied(t *testing.T) {
	const mask = "model.layers.0.self_attn.rotary_emb.inv_freq"
	inf := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(-1))))
	m := model{config: llamaConfig, extra: []checkpoints.Spec{{Name: mask, DType: checkpoints.F32, Shape: []int{1}}}, data: map[string][]byte{mask: inf}}
	for _, target := range []Target{Native, Expanded, GGUF} {
		for _, method := range []Method{Mean, First, Random} {
			m.data[output] = poisoned(math.NaN())
			dir := m.write(t)
			parent := t.TempDir()
			out := filepath.Join(parent, "out")
			warned := logged(t, func() {
				if _, err := newPlan(t, dir, Options{Goal: Groups(2), Method: method, Target: target}).Run(t.Context(), out, RunOptions{}); err != nil {
					t.Fatal(err)
				}
			})
			if strings.Count(warned, "\n") != 1 || !strings.Contains(warned, `tensors=1 first=`+output+` value="NaN at [2, 5]"`) {
				t.Errorf("%s, %s: logged %q", target, method, warned)
			}
			if target != GGUF && raw(t, golden.Open(t, out), output) != raw(t, golden.Open(t, dir), output) {
				t.Errorf("%s, %s: %s changed", target, method, output)
			}
			delete(m.data, output)
			dir = m.write(t)
			if warned := logged(t, func() { convertTo(t, dir, Options{Goal: Groups(2), Method: method}) }); warned != "" {
				t.Errorf("%s: a finite model: logged %q", method, warned)
			}
		}
	}
}

// TestNotFiniteNeighbour: in a neighbour's class all tensors are computed.
func TestNotFiniteNeighbour(t *testing.T) {
	const name = "gpt_neox.layers.1.attention.dense.weight"
	dir := model{config: neoxConfig, data: map[string][]byte{name: poisoned(math.NaN())}}.write(t)
	parent := t.TempDir()
	plan := newPlan(t, dir, Options{Goal: Groups(2)})
	if plan.Arch.Family.Name == plan.Source.Arch.Family.Name {
		t.Fatal("a NeoX of two groups is not written as a neighbour")
	}
	_, err := plan.Run(t.Context(), filepath.Join(parent, "out"), RunOptions{})
	wantError(t, err, fmt.Sprintf("model.safetensors: tensor %q: NaN at [2, 5]", name))
	wantEmpty(t, parent)
}

// TestOverflow: finite weights whose sums or roundings overflow are an error.
func TestOverflow(t *testing.T) {
	for name, c := range map[string]struct {
		x    float64 // among ones; in each head at the same place
		o    Options
		want string
	}{
		"f16":                {1e5, Options{Method: Mean, DType: checkpoints.F16}, "holds 100000, and the largest F16 is 65504"},
		"bf16":               {3.4e38, Options{Method: First, DType: checkpoints.BF16}, "holds 3.4e+38, and the largest BF16 is"},
		"sum of a mean":      {3e38, Options{Method: Mean}, "holds +Inf, and only finite numbers are written"},
		"sum of a transpose": {3e38, Options{Method: Mean, Target: GGUF}, "holds +Inf, and only finite numbers are written"},
		"moment, align":      {1e30, Options{Method: Align}, "layer 1, decoder_self attention: align"},
		"moment, calibrated": {1e30, Options{Method: Calibrated}, "layer 1, decoder_self attention: calibrated"},
		"moment, similar":    {1e30, Options{Method: Mean, Grouping: Similar}, "layer 1, decoder_self attention: mean"},
	} {
		t.Run(name, func(t *testing.T) {
			values := make([]byte, 0, 4*16*16)
			for i := range 16 * 16 {
				x := float32(1)
				if i/16%2 == 0 && i%16 == 5 { // in the first of the two dims of each head
					x = float32(c.x)
				}
				values = binary.LittleEndian.AppendUint32(values, math.Float32bits(x))
			}
			dir := model{config: llamaConfig, data: map[string][]byte{keys: values}}.write(t)
			parent := t.TempDir()
			c.o.Goal = Groups(2)
			_, err := newPlan(t, dir, c.o).Run(t.Context(), filepath.Join(parent, "out"), RunOptions{})
			wantError(t, err, c.want)
			wantEmpty(t, parent)
		})
	}
}

// constant is the data of a weight [16, 16] in f32.
func constant(x float32) (data []byte) {
	for range 16 * 16 {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return data
}

// someText is enough of it for a few batches.
func someText() *calibrate.Data {
	text := &calibrate.Data{IDs: make([]int32, 1<<13), Tokens: 1 << 13}
	for i := range text.IDs {
		text.IDs[i] = int32(i * i % 6)
	}
	return text
}

// TestActivationsOverflow: finite weights whose products overflow are an error that names the place. Comparing by weights
// alone still works.
func TestActivationsOverflow(t *testing.T) {
	const values = "model.layers.1.self_attn.v_proj.weight"
	dir := model{config: llamaConfig, data: map[string][]byte{values: constant(1e20), output: constant(1e20)}}.write(t)
	for _, o := range []Options{
		{Method: Calibrated, Calibration: someText()},
		{Method: Align, Grouping: Similar, Calibration: someText()},
		{Method: First, Calibration: someText(), Refine: 3, RefineBy: ByLayer},
		{Method: First, Calibration: someText(), Refine: 3, RefineBy: ByModel},
	} {
		o.Goal = Groups(2)
		parent := t.TempDir()
		_, err := newPlan(t, dir, o).Run(t.Context(), filepath.Join(parent, "out"), RunOptions{})
		wantError(t, err, "layer 1, decoder_self attention: calibration: activations (")
		wantEmpty(t, parent)
	}
}

// TestSilentLayer: fitting an attention whose output is zero does not divide by zero, and its figures are finite.
func TestSilentLayer(t *testing.T) {
	const silent = "model.layers.0.self_attn.o_proj.weight"
	dir := model{config: strings.Replace(llamaConfig, `, "attention_bias": true`, "", 1), data: map[string][]byte{silent: constant(0)}}.write(t)
	for _, o := range []Options{
		{Method: Calibrated, Calibration: someText()},
		{Method: Mean, Calibration: someText(), Refine: 3, RefineBy: ByLayer},
		{Method: Calibrated, Grouping: Similar, Calibration: someText(), Refine: 3, RefineBy: ByModel},
		{Method: Align},
	} {
		o.Goal = Groups(2)
		for _, x := range floats(t, convertTo(t, dir, o), silent) {
			if math.Abs(float64(x)) > 1e-2 {
				t.Fatalf("%+v: the output's weights are now %v", o, x)
			}
		}
	}
}
