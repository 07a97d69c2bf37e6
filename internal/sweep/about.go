package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gqa/convert"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/internal/file"
	"gqa/train"
)

// About is what a report says about itself, besides what was measured.
type About struct {
	Program string // that measures: its name and version
	Command string // that was called
	Rules   *report.Rules
	// Making returns the commands that make the model in a folder, if they are known. original is the folder or file of the report's
	// original model.
	Making func(folder, original string) string
}

// describe says how the report is made.
func (a About) describe(r *report.Report) {
	r.Program, r.Rules, r.Date = a.Program, a.Rules, time.Now().UTC().Format(time.RFC3339)
	if a.Command != "" {
		r.Commands = []string{a.Command}
	}
}

// details are what a report says about a point besides its figures.
type details struct {
	folder, command, continuation string
	training                      [][2]float64
	layers                        []report.LayerError
}

func (d details) addTo(p *report.Point) {
	p.Folder, p.Command, p.Continuation, p.Training, p.Layers = d.folder, d.command, d.continuation, d.training, d.layers
}

// details returns those of the model m, which is in a folder, and sets the report's prompt. run is the folder of its up-training, if any;
// otherwise the errors of the conversion's layers are the model's.
func (a About) details(ctx context.Context, r *report.Report, m *eval.Model, c *eval.Corpus, folder, run, original string) (d details, err error) {
	d.folder = folder
	if r.Prompt, d.continuation, err = continuation(ctx, m, c); err != nil {
		return d, err
	}
	if a.Making != nil {
		d.command = a.Making(folder, original)
	}
	if run == "" {
		d.layers = layerErrors(recordOf(folder))
		return d, nil
	}
	metrics, err := train.ReadMetrics(run)
	d.training = trainingCurve(metrics)
	return d, err
}

// trainingCurve returns the cross-entropy with the data over the tokens of an up-training.
func trainingCurve(metrics []train.Metrics) [][2]float64 {
	var tokens []int64
	var losses []float64
	for _, m := range metrics {
		if m.Skipped != "" {
			continue
		}
		loss := float64(m.Loss)
		if m.CE != nil {
			loss = *m.CE
		}
		tokens, losses = append(tokens, m.Tokens), append(losses, loss)
	}
	return report.Curve(tokens, losses)
}

// recordOf returns the record of a conversion, or the zero Summary if the folder, or that of the file, has none that can be read.
func recordOf(model string) (s convert.Summary) {
	if info, err := os.Stat(model); err == nil && !info.IsDir() {
		model = filepath.Dir(model)
	}
	text, err := file.Read(filepath.Join(model, "conversion.json"))
	if err != nil || json.Unmarshal(text, &s) != nil {
		return convert.Summary{}
	}
	return s
}

// layerErrors returns the error of each attention: that of its output if it was fitted, otherwise the mean over what the shared heads, or the
// keys and values of latent attention, contribute to it.
func layerErrors(record convert.Summary) (all []report.LayerError) {
	for _, l := range record.Layers {
		e := report.LayerError{Name: fmt.Sprint(l.Layer)}
		if len(record.Sites) > 1 {
			e.Name = fmt.Sprintf("%s %d", l.Site, l.Layer)
		}
		switch {
		case l.Fit != nil:
			e.Error = l.Fit.After
		case l.Readout != nil:
			e.Error = l.Readout.After
		case l.Latent != nil:
			e.Error = (l.Latent.KeysError + l.Latent.ValuesError) / 2
		default:
			for _, g := range l.Groups {
				e.Error += (g.K.Error + g.V.Error) / float64(2*len(l.Groups))
			}
		}
		all = append(all, e)
	}
	return all
}
