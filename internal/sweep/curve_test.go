package sweep

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/convert"
)

func TestParseCurve(t *testing.T) {
	for text, want := range map[string]struct {
		curve Curve
		again string
	}{
		"mean":                  {Curve{Method: convert.Mean, Grouping: convert.Contiguous}, ""},
		"mean+kl":               {Curve{Method: convert.Mean, Grouping: convert.Contiguous, Loss: recipe.KL}, ""},
		"calibrated+similar+kl": {advised, ""},
		"mla":                   {Curve{Method: convert.MethodLatent, Grouping: convert.Contiguous}, ""},
		"mla+refine=150+kl":     {Curve{Method: convert.MethodLatent, Grouping: convert.Contiguous, Refine: 150, Loss: recipe.KL}, ""},
		"align+mixed+refine=30+similar": {
			Curve{Method: convert.Align, Grouping: convert.Similar, Refine: 30, Loss: recipe.Mixed}, "align+similar+refine=30+mixed",
		},
	} {
		got, err := ParseCurve(text)
		if again := got.String(); err != nil || got != want.curve || again != text && again != want.again {
			t.Errorf("%s: %+v, written %s, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"best":                             `"best" is unknown; want one of [mean first random align calibrated mla]`,
		"":                                 `"" is unknown`,
		"mean+":                            `mean+: "" is unknown; want similar, refine=STEPS, ce, kl or mixed`,
		"mla+similar":                      `mla+similar: latent attention has no groups that heads could be similar in`,
		"mean+most":                        `mean+most: "most" is unknown`,
		"align+refine=0":                   `refine is "0", want a number of steps`,
		"align+refine=9223372036854775807": `refine is "9223372036854775807", want a number of steps`,
		"align+refine=many":                `refine is "many", want a number of steps`,
	} {
		_, err := ParseCurve(text)
		wantError(t, text, err, want)
	}
}

// Two curves in one report: shared conversions are made and evaluated once, latency depends on the groups only, and the
// original is not trained to follow itself.
func TestCurves(t *testing.T) {
	o, dir := tiny(t, "llama"), t.TempDir()
	o.Groups, o.Calibration, o.CalibrationTokens = []int{8, 2}, o.Data, 40
	o.Curves = []Curve{paper, advised, {Method: convert.Mean, Grouping: convert.Contiguous, Loss: recipe.KL}}
	var w watched
	r := mustRun(t, dir, o, false, w.watcher())
	var got []string
	for _, p := range r.Points {
		got = append(got, fmt.Sprint(p.Groups, " ", p.Method, " ", p.Recipe, " ", p.UptrainTokens))
	}
	want := []string{
		"8 mha  0", "8 mean  48", "2 mean  0", "2 mean  48",
		"2 calibrated calibrated+similar+kl 0", "2 calibrated calibrated+similar+kl 48", "2 mean mean+kl 48",
	}
	if !slices.Equal(got, want) {
		t.Errorf("points %q, want %q", got, want)
	}
	ms := map[int]float64{}
	for _, p := range r.Points {
		if ms[p.Groups] != 0 && ms[p.Groups] != p.DecodeMsPerToken {
			t.Errorf("%s: %v ms, another of %d groups %v", p.Name(), p.DecodeMsPerToken, p.Groups, ms[p.Groups])
		}
		ms[p.Groups] = p.DecodeMsPerToken
	}
	if l := losses(r); l[3] == l[6] {
		t.Errorf("losses %v: that after kl is that after ce", l)
	}
	stamps(t, dir, "models/2-calibrated+similar/conversion.json", "runs/2-calibrated+similar+kl/model/config.json", "runs/2-mean+kl/model/config.json")
	for _, gone := range []string{"teacher", "models/2-mean+kl", "runs/8-mean+kl"} {
		if left, _ := filepath.Glob(filepath.Join(dir, gone)); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
	again := mustRun(t, dir, o, false, w.watcher())
	if !slices.Equal(losses(again), losses(r)) || w.steps["up-training 2-mean+kl"] != 0 {
		t.Errorf("again: losses %v, steps %v", losses(again), w.steps)
	}
}

// Every decoder has both curves, the second in the form that its positions allow.
func TestDefaults(t *testing.T) {
	for family, want := range map[string]string{"": "+similar", "gpt2": "+similar", "gpt_neox": "+similar", "qwen3": "+similar", "bloom": "", "mpt": ""} {
		var o Options
		if family != "" {
			o = tiny(t, family)
		}
		d, err := DefaultsOf(o.Model)
		if got := fmt.Sprint(d.Curves); err != nil || d.Arch.KVHeads != 8 || got != "[mean calibrated"+want+"+kl]" || (d.Lacks == nil) != (want != "") {
			t.Errorf("%q: %s of %d KV heads, without all for %v; %v", family, got, d.Arch.KVHeads, d.Lacks, err)
		}
		if d.Lacks != nil && !strings.Contains(d.Lacks.Error(), "ALiBi") {
			t.Errorf("%s: %v", family, d.Lacks)
		}
	}
	_, err := DefaultsOf("nowhere")
	wantError(t, "no model", err, "model: nowhere")
}
