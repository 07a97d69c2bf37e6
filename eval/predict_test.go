package eval

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"gqa/configs/hardware"
)

// measured is an entry of testdata/predict.yaml, which explains its keys.
type measured struct {
	Name, Hardware, Shape, DType string
	Steps, Prefills              [][4]float64
	Samples                      [][5]float64
}

// Predictions are compared with times that were measured with this software, to which some of the hardware's figures were
// fitted, and with published ones of other software, to which none were.
func TestPredictMeasured(t *testing.T) {
	data, err := os.ReadFile("testdata/predict.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var entries []measured
	if err := yaml.UnmarshalWithOptions(data, &entries, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	byPart := map[string][]float64{}
	for _, e := range entries {
		part := e.Hardware
		if !strings.HasPrefix(e.Name, "ours") {
			part = "other software"
		}
		all := e.errors(t)
		t.Logf("%-40s %2d: median %4.1f%%, largest %4.1f%%", e.Name, len(all), 100*medianOf(all), 100*slices.Max(all))
		byPart[part] = append(byPart[part], all...)
	}
	for part, all := range byPart {
		t.Logf("%-40s %2d: median %4.1f%%", part, len(all), 100*medianOf(all))
		if medianOf(all) > 0.15 {
			t.Errorf("%s: the median error is %.1f%%, want at most 15%%", part, 100*medianOf(all))
		}
	}
	if n := len(byPart); n != 4 {
		t.Errorf("%d parts, want 4", n)
	}
}

// errors returns the relative errors of the predictions.
func (e measured) errors(t *testing.T) (all []float64) {
	add := func(predicted, measured float64) { all = append(all, math.Abs(predicted/measured-1)) }
	for _, x := range e.Steps {
		add(e.predict(t, int(x[0]), int(x[1]), int(x[2]), 0).DecodeMSPerStep, x[3])
	}
	for _, x := range e.Prefills {
		add(e.predict(t, int(x[0]), int(x[1]), 1, int(x[2])).PrefillMS, x[3])
	}
	for _, x := range e.Samples {
		p := e.predict(t, int(x[0]), int(x[1]), int(x[2]+x[3]/2), int(x[2]))
		add(1000*x[1]*x[3]/(p.PrefillMS+x[3]*p.DecodeMSPerStep), x[4])
	}
	return all
}

func (e measured) predict(t *testing.T, groups, batch, context, prompt int) Prediction {
	t.Helper()
	s, err := ShapeByName(e.Shape)
	if err != nil {
		t.Fatal(err)
	}
	o := PredictOptions{Batches: []int{batch}, Contexts: []int{context}, PromptLen: prompt, Weights: e.DType, Cache: e.DType}
	return predictAll(t, s, e.Hardware, o)[groups]
}

// predictAll returns the predictions for one batch and context by groups.
func predictAll(t *testing.T, s Shape, name string, o PredictOptions) map[int]Prediction {
	t.Helper()
	h, err := hardware.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Predict(s, h, o)
	if err != nil {
		t.Fatal(err)
	}
	by := map[int]Prediction{}
	for _, p := range rows {
		by[p.Groups] = p
	}
	return by
}

func medianOf(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}

// The paper's Figure 6 (arXiv 2305.13245) shows the time per sample of T5-XXL over the number of groups, for 2048 tokens of
// input and 512 of output: nearly flat up to 8 groups, then rising towards multi-head attention. Its Table 1 has 0.24, 0.28 and
// 1.51 s for 1, 8 and 64 groups.
func TestPredictFigure6(t *testing.T) {
	s, err := ShapeByName("t5-v1.1-xxl-decoder")
	if err != nil {
		t.Fatal(err)
	}
	const input, output = 2048, 512
	by := predictAll(t, s, "tpu-v4", PredictOptions{Batches: []int{32}, Contexts: []int{input}, PromptLen: input, Weights: "bf16", Cache: "bf16"})
	seconds := func(groups int) float64 {
		p := by[groups]
		return (p.PrefillMS + output*p.DecodeMSPerStep) / float64(p.Batch) / 1000
	}
	for groups := 1; groups < 64; groups *= 2 {
		if less, more := seconds(groups), seconds(2*groups); less >= more {
			t.Errorf("%d groups take %.3f s, %d take %.3f; want more", groups, less, 2*groups, more)
		}
	}
	if rise := seconds(8) / seconds(1); rise > 1.4 {
		t.Errorf("8 groups take %.2f times as long as 1, want at most 1.4", rise)
	}
	if rise := seconds(64) / seconds(8); rise < 2.5 {
		t.Errorf("64 groups take %.2f times as long as 8, want at least 2.5", rise)
	}
	t.Logf("1, 8 and 64 groups: %.2f, %.2f and %.2f s", seconds(1), seconds(8), seconds(64))
}

// What a step reads and computes is what a Llama of the shape reads and computes, but for norms.
func TestPredictCounts(t *testing.T) {
	s, err := ShapeByName("llama-3-8b")
	if err != nil {
		t.Fatal(err)
	}
	p := predictor{shape: s, weights: elements["bf16"], cache: elements["bf16"], row: perElement(2)}
	for _, groups := range s.Groups() {
		a, err := s.arch(groups)
		if err != nil {
			t.Fatal(err)
		}
		m, c := &Model{Arch: a}, p.step(groups, 3, 1000)
		wantBytes := 2*float64(m.readPerStep()) + 3*1000*float64(a.KVBytesPerToken(2))
		if math.Abs(c.bytes/wantBytes-1) > 1e-3 {
			t.Errorf("%d groups: %.5g bytes, want %.5g", groups, c.bytes, wantBytes)
		}
		if got, want := c.products+c.attention, m.stepFLOPs(3, 1000); math.Abs(got/want-1) > 1e-3 {
			t.Errorf("%d groups: %.5g operations, want %.5g", groups, got, want)
		}
	}
}

// A shape with latent attention has no groups to predict for.
func TestPredictLatent(t *testing.T) {
	s, err := ShapeByName("deepseek-v2")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hardware.Load("h200")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Predict(s, h, PredictOptions{Weights: "bf16", Cache: "bf16", Batches: []int{1}, Contexts: []int{512}})
	if err == nil || !strings.Contains(err.Error(), "deepseek-v2 has latent attention") {
		t.Errorf("error %v", err)
	}
}

// The largest batch fits, and one sequence more does not.
func TestPredictLargestBatch(t *testing.T) {
	s, err := ShapeByName("llama-2-7b")
	if err != nil {
		t.Fatal(err)
	}
	for _, cache := range []string{"f32", "bf16", "int8", "int4"} {
		o := PredictOptions{Batches: []int{1}, Contexts: []int{4096}, Weights: "bf16", Cache: cache}
		for groups, p := range predictAll(t, s, "a100", o) {
			o.Batches = []int{int(p.MaxBatch), int(p.MaxBatch) + 1}
			h, err := hardware.Load("a100")
			if err != nil {
				t.Fatal(err)
			}
			rows, err := Predict(s, h, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if r.Groups != groups {
					continue
				}
				if used := float64(r.KVBytes + r.WeightBytes); r.Fits != (used <= 0.9*80*(1<<30)) {
					t.Errorf("%s, %d groups, batch %d: %.3g bytes of 80 GiB, fits is %v", cache, groups, r.Batch, used, r.Fits)
				}
			}
		}
	}
	int8 := predictAll(t, s, "a100", PredictOptions{Batches: []int{1}, Contexts: []int{1}, Weights: "bf16", Cache: "int8"})
	if got := int8[8].KVBytesPerToken; got != 2*32*8*(128+4) {
		t.Errorf("8 groups in int8 take %d bytes per token", got)
	}
}

func TestPredictWindow(t *testing.T) {
	s, err := ShapeByName("mistral-7b") // a window of 4096 tokens
	if err != nil {
		t.Fatal(err)
	}
	o := PredictOptions{Batches: []int{8}, Contexts: []int{4096, 32768}, Weights: "bf16", Cache: "bf16"}
	h, err := hardware.Load("h100")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Predict(s, h, o)
	if err != nil {
		t.Fatal(err)
	}
	half := len(rows) / 2
	for i, p := range rows[:half] {
		if q := rows[half+i]; q.DecodeMSPerStep != p.DecodeMSPerStep || q.KVBytes != p.KVBytes {
			t.Errorf("%d groups: beyond the window a step takes %v ms, not %v", p.Groups, q.DecodeMSPerStep, p.DecodeMSPerStep)
		}
	}
}
