package sweep

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/eval/report"
)

// Latent attention has the bytes of the groups beside it, is timed by itself, and is up-trained as groups are. With the model's own number
// of KV heads nothing becomes latent.
func TestLatentCurve(t *testing.T) {
	o, dir := tiny(t, "llama"), t.TempDir()
	o.Groups, o.Calibration, o.CalibrationTokens = []int{8, 2, 1}, o.Data, 40
	mla := Curve{Method: convert.MethodLatent, Grouping: convert.Contiguous}
	refined := mla
	refined.Refine, refined.Loss = 2, recipe.KL
	o.Curves = []Curve{paper, mla, refined}
	var w watched
	r := mustRun(t, dir, o, false, w.watcher())
	var got []string
	bytes, ms := map[int]int64{}, map[string]float64{}
	for _, p := range r.Points {
		size := "groups"
		if l := p.Latent; l != nil {
			size = fmt.Sprintf("%d+%d", l.Rank, l.RopeDim)
			if p.KVBytesPerToken != 4*2*int64(l.Rank+l.RopeDim) {
				t.Errorf("%s: %d bytes, want those of two layers in f32", p.Name(), p.KVBytesPerToken)
			}
		}
		got = append(got, fmt.Sprint(p.Groups, " ", size, " ", p.Method, " ", p.Recipe, " ", p.UptrainTokens))
		if bytes[p.Groups] == 0 {
			bytes[p.Groups] = p.KVBytesPerToken
		}
		if p.KVBytesPerToken != bytes[p.Groups] {
			t.Errorf("%s: %d bytes, others of %d groups %d", p.Name(), p.KVBytesPerToken, p.Groups, bytes[p.Groups])
		}
		at := fmt.Sprint(p.Groups, size)
		if ms[at] != 0 && ms[at] != p.DecodeMsPerToken {
			t.Errorf("%s: %v ms, another %v", p.Name(), p.DecodeMsPerToken, ms[at])
		}
		ms[at] = p.DecodeMsPerToken
		if p.Latent != nil && p.UptrainTokens == 0 && (len(p.Layers) != 2 || !(p.Layers[0].Error > 0)) {
			t.Errorf("%s: errors of layers %v", p.Name(), p.Layers)
		}
	}
	want := []string{
		"8 groups mha  0", "8 groups mean  48", "2 groups mean  0", "2 groups mean  48", "1 groups mean  0", "1 groups mean  48",
		"8 groups mla  48", "2 24+8 mla  0", "2 24+8 mla  48", "1 12+4 mla  0", "1 12+4 mla  48",
		"2 24+8 mla mla+refine=2+kl 0", "2 24+8 mla mla+refine=2+kl 48", "1 12+4 mla mla+refine=2+kl 0", "1 12+4 mla mla+refine=2+kl 48",
	}
	if !slices.Equal(got, want) {
		t.Errorf("points\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if ms["2groups"] == ms["224+8"] {
		t.Errorf("times %v: that of latent attention is that of groups", ms)
	}
	for _, stage := range []string{"converting to the cache of 2 groups by mla", "evaluating mla at a latent of 24 + 8", "up-training 2-mla+refine=2+kl"} {
		if !slices.Contains(w.stages, stage) {
			t.Errorf("there is no stage %q in %q", stage, w.stages)
		}
	}
	record := recordOf(filepath.Join(dir, "models", "2-mla+refine=2"))
	if record.Target != convert.MLA || record.Latent == nil || record.Refine != 2 || record.Calibration == "" {
		t.Errorf("record %+v", record)
	}
	if again, err := report.Read(dir); err != nil || again.Points[7].Name() != "24+8 mla" {
		t.Errorf("read back: %+v, %v", again.Points, err)
	}
}

// What cannot become latent is known before anything is written.
func TestLatentRefuses(t *testing.T) {
	for family, want := range map[string]string{
		"gpt2":  "method mla: the attention cannot become latent: family gpt2 has learned positions, not rotary ones",
		"qwen3": "method mla: the attention cannot become latent: family qwen3 normalises queries and keys",
		"llama": "groups is 3, want a divisor",
	} {
		o, dir := tiny(t, family), filepath.Join(t.TempDir(), "new")
		o.Groups, o.Curves = []int{8, 4}, []Curve{paper, {Method: convert.MethodLatent}}
		if family == "llama" {
			o.Groups, o.Curves = []int{3}, o.Curves[1:]
		}
		_, err := Run(t.Context(), dir, o, false, Watcher{})
		wantError(t, family, err, want)
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: %s exists", family, dir)
		}
	}
}

// In a comparison, groups are those of the first model with the nearest size.
func TestCompareLatent(t *testing.T) {
	p := Point{
		Model: sampleModel, Curve: Curve{Method: convert.MethodLatent}, Groups: 2, Conversion: filepath.Join(t.TempDir(), "latent"),
	}
	if err := p.Convert(t.Context(), Watcher{}); err != nil {
		t.Fatal(err)
	}
	r, err := Compare(t.Context(), filepath.Join(t.TempDir(), "comparison"), compareOptions(sampleModel, p.Conversion), Watcher{})
	if err != nil {
		t.Fatal(err)
	}
	got := r.Points[1]
	if got.Latent == nil || *got.Latent != (report.Latent{Rank: 96, RopeDim: 32}) || got.Groups != 2 || got.Method != "mla" ||
		4*got.KVBytesPerToken != r.Points[0].KVBytesPerToken {
		t.Errorf("point %+v", got)
	}
	s, err := eval.ShapeOfModel(p.Conversion) // its layers differ in their frequencies only
	if err != nil || s.KVRank != 96 || s.RopeDim != 32 {
		t.Errorf("shape %+v, %v", s, err)
	}
}

// The arithmetic of a cache also knows models whose layers have other ranks: their mean is that of equal ones.
func TestShapeOfRanks(t *testing.T) {
	model := tiny(t, "llama").Model
	src, err := convert.Open(model, convert.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	text := &calibrate.Data{Name: "text", IDs: make([]int32, 400), Tokens: 400, Window: 20}
	for i := range text.IDs {
		text.IDs[i] = int32(i * i % src.Arch.Vocab)
	}
	plan, err := convert.NewPlan(src, convert.Options{Goal: convert.LatentAttention(convert.LatentGoal{Bytes: 256}), Target: convert.MLA, Calibration: text})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "latent")
	record, err := plan.Run(t.Context(), dir, convert.RunOptions{})
	if err != nil || record.Latent.RankPerLayer == nil {
		t.Fatalf("record %+v, %v", record, err)
	}
	s, err := eval.ShapeOfModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := eval.KVRows(s, eval.KVOptions{})
	if last := rows[len(rows)-1]; err != nil || !last.Latent || last.KVBytesPerToken != 256 || last.KVRank != 48 {
		t.Errorf("rows %+v, %v", rows, err)
	}
	_, err = eval.KVRows(s, eval.KVOptions{KVDType: "int4"})
	wantError(t, "4 bits", err, "differ from layer to layer")
}
