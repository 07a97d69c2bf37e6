package sweep

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/eval/report"
	"gqa/train"
)

// checkDetails checks what a sweep of the sample with two steps of 64 tokens says about a point besides its figures.
func checkDetails(t *testing.T, p report.Point) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(p.Folder, "config.json")); err != nil {
		t.Errorf("%s: %v", p.Name(), err)
	}
	if !strings.HasPrefix(p.Command, p.Folder+" of ") || !strings.HasSuffix(p.Command, "gopher-4m") {
		t.Errorf("%s: command %q", p.Name(), p.Command)
	}
	if p.Continuation == "" {
		t.Errorf("%s: no continuation", p.Name())
	}
	if p.UptrainTokens == 0 {
		if p.Training != nil {
			t.Errorf("%s: training %v", p.Name(), p.Training)
		}
		return
	}
	if n := len(p.Training); n != 2 || p.Training[n-1][0] != float64(p.UptrainTokens) || p.Training[0][1] < 0.5 {
		t.Errorf("%s: training %v", p.Name(), p.Training)
	}
}

// With a teacher the curve is the cross-entropy, which those of other up-trainings can be compared with.
func TestTrainingCurve(t *testing.T) {
	ce := 2.5
	got := trainingCurve([]train.Metrics{{Tokens: 8, Loss: 3}, {Tokens: 16, Loss: 0.25, CE: &ce}})
	if want := [][2]float64{{8, 3}, {16, 2.5}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLayerErrors(t *testing.T) {
	group := func(k, v float64) convert.MergedGroup {
		return convert.MergedGroup{K: convert.MergedFit{Error: k}, V: convert.MergedFit{Error: v}}
	}
	record := convert.Summary{Layers: []convert.Layer{
		{Site: "decoder_self", Layer: 0, Groups: []convert.MergedGroup{group(0.1, 0.2), group(0.3, 0.4)}},
		{Site: "decoder_self", Layer: 1, Readout: &convert.LayerFit{Before: 0.5, After: 0.125}},
		{Site: "cross", Layer: 0, Readout: &convert.LayerFit{After: 0.125}, Fit: &convert.LayerFit{After: 0.0625}},
	}}
	if got, want := layerErrors(record), []report.LayerError{{Name: "0", Error: 0.25}, {Name: "1", Error: 0.125}, {Name: "0", Error: 0.0625}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	record.Sites = []configs.Site{"decoder_self", "cross"}
	if got := layerErrors(record); got[0].Name != "decoder_self 0" || got[2].Name != "cross 0" {
		t.Errorf("got %v", got)
	}
	if got := layerErrors(recordOf(t.TempDir())); got != nil {
		t.Errorf("a model that was not converted has the errors %v", got)
	}
}
