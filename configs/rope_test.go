package configs

import (
	"math"
	"strings"
	"testing"
)

func checkFrequencies(t *testing.T, r Rope) {
	t.Helper()
	freqs := r.InvFreq()
	if len(freqs) != (r.Dim+1)/2 {
		t.Fatalf("%+v: %d frequencies", r, len(freqs))
	}
	for i, f := range freqs {
		if !(f >= 0 && f <= 1) {
			t.Fatalf("%+v: frequency %d is %v, want 0 to 1", r, i, f)
		}
	}
}

// TestInvFreq compares with figures from transformers' published formulas, evaluated elsewhere with 40 digits.
func TestInvFreq(t *testing.T) {
	yarn := func(factor, original, fast, slow float64, truncate bool) RopeScaling {
		return RopeScaling{Type: "yarn", Factor: factor, OriginalContext: original, BetaFast: fast, BetaSlow: slow, Truncate: truncate}
	}
	for name, c := range map[string]struct {
		rope Rope
		want []float64
	}{
		"default":            {Rope{8, 10000, RopeScaling{}}, []float64{1, 0.1, 0.01, 0.001}},
		"odd":                {Rope{5, 10000, RopeScaling{Type: "default"}}, []float64{1, 0.0251188643151, 0.00063095734448}},
		"dynamic in context": {Rope{8, 10000, RopeScaling{Type: "dynamic", Factor: 4}}, []float64{1, 0.1, 0.01, 0.001}},
		"linear":             {Rope{8, 10000, RopeScaling{Type: "linear", Factor: 4}}, []float64{0.25, 0.025, 0.0025, 0.00025}},
		"llama3": { // Llama 3.1's parameters: planes 0-2 kept, 4 blended, 5-7 divided by 8
			Rope{16, 500000, RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}},
			[]float64{1, 0.193922744749, 0.0376060309309, 0.00729266473722, 0.000524846160993, 3.42810219595e-05, 6.64786987118e-06, 1.28917317215e-06},
		},
		"yarn": { // blended between planes 2 and 6
			Rope{16, 10000, yarn(4, 4096, 32, 1, true)},
			[]float64{1, 0.316227766017, 0.1, 0.0256935059889, 0.00625, 0.00138349647632, 0.00025, 7.90569415042e-05},
		},
		"yarn not truncated": { // between planes 2.62 and 5.63
			Rope{16, 10000, yarn(4, 4096, 32, 1, false)},
			[]float64{1, 0.316227766017, 0.1, 0.028613608812, 0.00655697152113, 0.00128563203073, 0.00025, 7.90569415042e-05},
		},
		"yarn of a short context": {Rope{4, 10000, yarn(2, 8, 32, 1, true)}, []float64{1, 0.005}},
		"yarn of other betas": { // between planes 1 and 3
			Rope{16, 150000, yarn(16, 512, 8, 2, true)},
			[]float64{1, 0.225418000203, 0.0269945522457, 0.000715889174541, 0.000161374306092, 3.63766733634e-05, 8.19995696361e-06, 1.84841790049e-06},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.rope.InvFreq()
			if len(got) != len(c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
			for i, want := range c.want {
				if math.Abs(got[i]-want) > 1e-11*want {
					t.Errorf("frequency %d is %.12g, want %.12g", i, got[i], want)
				}
			}
			checkFrequencies(t, c.rope)
		})
	}
}

func TestRopeScale(t *testing.T) {
	for _, c := range []struct {
		s    RopeScaling
		want float64
	}{
		{RopeScaling{}, 1},
		{RopeScaling{Type: "linear", Factor: 4}, 1},
		{RopeScaling{Type: "llama3", Factor: 4, Attention: 2}, 1},
		{RopeScaling{Type: "yarn", Factor: 1}, 1},
		{RopeScaling{Type: "yarn", Factor: 4}, 1.138629436111989},
		{RopeScaling{Type: "yarn", Factor: 4, Attention: 0.7}, 0.7},
		{RopeScaling{Type: "yarn", Factor: 4, MScale: 0.707}, 1.138629436111989}, // both or none
		{RopeScaling{Type: "yarn", Factor: 40, MScale: 0.707, MScaleAllDim: 1}, 0.9210423553163399},
	} {
		if got := (Rope{Dim: 8, Theta: 10000, RopeScaling: c.s}).Scale(); math.Abs(got-c.want) > 1e-15 {
			t.Errorf("%+v: %v, want %v", c.s, got, c.want)
		}
	}
}

// TestWindowRope checks that only layers without a window have OLMo 3's scaled positions, whether the configuration is of
// transformers 5 or older.
func TestWindowRope(t *testing.T) {
	for name, config := range map[string]string{
		"by layer": `{"model_type": "olmo3", "num_hidden_layers": 4, "rope_parameters": {
			"full_attention": {"rope_type": "linear", "factor": 4, "rope_theta": 300000}, "sliding_attention": {"rope_type": "default", "rope_theta": 20000}}}`,
		"flat":  `{"model_type": "olmo3", "num_hidden_layers": 4, "rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 300000}}`,
		"older": `{"model_type": "olmo3", "num_hidden_layers": 4, "rope_theta": 300000, "rope_scaling": {"type": "linear", "factor": 4}}`,
	} {
		a := resolve(t, config)
		window, full := a.WindowRope, a.Rope
		want := map[string]float64{
			"by layer": 20000, "flat": 300000, "older": 500000, // transformers reads the key rope_theta for the other layers alone
		}[name]
		if window.Type == "linear" || window.Theta != want || window.Dim != 128 {
			t.Errorf("%s: layers with a window have %+v", name, window)
		}
		if full.Type != "linear" || full.Factor != 4 || full.Theta != 300000 {
			t.Errorf("%s: layers without have %+v", name, full)
		}
	}
	_, err := Resolve([]byte(`{"model_type": "olmo3", "rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "longrope"}}}`), "")
	if err == nil || !strings.Contains(err.Error(), "longrope is not supported where rotary embeddings differ by layer") {
		t.Errorf("longrope: %v", err)
	}
}
