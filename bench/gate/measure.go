package main

import (
	"context"
	"maps"

	"gqa/eval"
	"gqa/eval/report"
	"gqa/eval/tasks"
)

// windows are what models are measured on.
type windows struct {
	data          string
	length, count int
	tasks         []*tasks.Task // measured, too
}

// measured is a model with its figures.
type measured struct {
	figures map[string]eval.Figure
	groups  int
	params  int64
}

func (w windows) measure(ctx context.Context, model string) (measured, error) {
	m, err := eval.LoadModel(ctx, model, eval.ModelOptions{Device: "cpu"})
	if err != nil {
		return measured{}, err
	}
	defer m.Close()
	o := eval.QualityOptions{SeqLen: w.length, MaxWindows: w.count}
	corpus, err := eval.LoadCorpus(ctx, w.data, m, o)
	if err != nil {
		return measured{}, err
	}
	q, err := eval.MeasureQuality(ctx, m, corpus, o)
	if err != nil {
		return measured{}, err
	}
	results, err := tasks.MeasureAll(ctx, m, w.tasks, tasks.Options{})
	maps.Copy(q.Figures, results.Figures())
	return measured{q.Figures, m.Arch.KVHeads, m.Parameters}, err
}

// report returns a report of the one model. alpha is above 0 if it was up-trained.
func (m measured) report(alpha float64) report.Scored {
	p := report.Point{
		Groups: m.groups, Method: "mean", Alpha: alpha, Loss: m.figures["loss"].Value, LossStderr: m.figures["loss"].Stderr,
		KVBytesPerToken: 1, Params: m.params, Batch: 1, Context: 1, Metrics: map[string]report.Metric{},
	}
	for name, f := range m.figures {
		p.Metrics[name] = report.Metric{Value: f.Value, Stderr: f.Stderr, N: f.N, Unit: f.Unit, Better: f.Better}
	}
	scores := &report.Scores{}
	scores.Add(m.figures)
	return report.Scored{Report: report.Report{Version: report.Version, Points: []report.Point{p}}, Scores: scores}
}

// passes reports whether a model passes the gate with another as the baseline.
func passes(m, baseline measured, alpha float64) (bool, error) {
	v, err := report.Gate(m.report(alpha), baseline.report(alpha), report.DefaultLimits)
	return err == nil && v.Err() == nil, err
}
