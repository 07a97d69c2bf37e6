package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"gqa/checkpoints"
	"gqa/convert"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/eval/tasks"
	"gqa/internal/weights"
	"gqa/train"
)

// CompareOptions say which models are compared, and how they are measured.
type CompareOptions struct {
	Models  []string // folders or files, the baseline first; the folder of a run stands for its result
	Data    string   // corpus to evaluate on
	Quality eval.QualityOptions
	Latency eval.LatencyOptions
	Timing  eval.Timing
	Tasks   tasks.Selection
	// FitContext reduces Latency.Context if the baseline has fewer positions.
	FitContext bool
	Device     string
	About      About
}

// Compare measures models and writes their report into dir, which must be new, or hold nothing but another report. Nothing is
// converted or trained.
func Compare(ctx context.Context, dir string, o CompareOptions, w Watcher) (report.Report, error) {
	if err := cmp.Or(reportOrNothing(dir), checkModels(o.Models)); err != nil {
		return report.Report{}, err
	}
	c := compare{CompareOptions: o, report: report.Report{Version: report.Version, Corpus: o.Data}, watch: w}
	var err error
	if c.tasks, err = o.Tasks.Load(); err != nil {
		return report.Report{}, err
	}
	o.About.describe(&c.report)
	for _, path := range o.Models {
		if err := c.add(ctx, path); err != nil {
			return report.Report{}, err
		}
	}
	if err := (timer{o.Device, o.Timing, w}).time(ctx, c.untimed); err != nil {
		return report.Report{}, err
	}
	return c.report, c.compared.write(c.report, dir)
}

// checkModels returns an error for models that cannot be measured or told apart, before any is measured.
func checkModels(models []string) error {
	for i, path := range models {
		if slices.Contains(models[:i], path) {
			return fmt.Errorf("%s is given twice", path)
		}
		if _, ok := eval.GGUF(path); ok {
			continue
		}
		src, err := weights.Open(path, weights.Options{})
		if err != nil {
			return err
		}
		src.Close()
		if !src.Arch.Causal {
			return fmt.Errorf("a report has decode times, and family %s of %s %w", src.Arch.Family.Name, path, eval.ErrDecode)
		}
	}
	return nil
}

// reportOrNothing returns an error if a folder holds anything but the files of a report.
func reportOrNothing(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return checkpoints.FolderError{Dir: dir, Err: errors.New("is not a folder")}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !slices.Contains(report.Files(), e.Name()) {
			return checkpoints.FolderError{Dir: dir, Err: fmt.Errorf("holds %s; name a new folder", e.Name())}
		}
	}
	return err
}

// compare is a comparison in progress.
type compare struct {
	CompareOptions
	report   report.Report
	watch    Watcher
	corpus   *eval.Corpus // as the first model reads it
	tasks    []*tasks.Task
	compared comparison
	untimed  []untimed
}

// add measures the quality of a model, and adds it to those that are to be timed.
func (c *compare) add(ctx context.Context, path string) error {
	m, err := eval.LoadModel(ctx, path, eval.ModelOptions{Device: c.Device})
	if err != nil {
		return err
	}
	defer m.Close()
	d, err := c.read(ctx, path, m)
	if err != nil {
		return err
	}
	latency := c.Latency
	latency.PromptLen = min(latency.Context, promptLen)
	if _, err := (eval.Cell{Model: m, LatencyOptions: latency}).Check(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	quality := c.Quality
	c.watch.stage("evaluating "+path, int(quality.Windows(d)))
	quality.Progress = c.watch.steps
	q, err := eval.MeasureQuality(ctx, m, d, quality)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := measureTasks(ctx, m, c.tasks, c.Tasks, path, q, c.watch); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	run := ""
	if train.IsRun(path) {
		run = path
	}
	more, err := c.About.details(ctx, &c.report, m, d, path, run, c.Models[0])
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.report.Machine = m.MachineName()
	known := m.Described()
	c.untimed = append(c.untimed, untimed{
		name: path, path: path, same: path, model: known, o: latency,
		done: func(l *eval.Latency) error { return c.addPoint(path, known, q, l, more) },
	})
	return nil
}

// addPoint adds a model to the report.
func (c *compare) addPoint(path string, m *eval.Model, q *eval.Quality, l *eval.Latency, more details) error {
	p := c.compared.point(m, q, l)
	c.report.Load = max(c.report.Load, l.Load)
	more.addTo(&p)
	p.Recipe, p.Method = path, methodOf(m, path)
	if train.IsRun(path) {
		status, err := train.ReadStatus(path)
		if err != nil {
			return err
		}
		p.UptrainTokens = status.Tokens
	}
	c.report.Points = append(c.report.Points, p)
	if c.report.Model == "" {
		c.report.Model = modelText(m.Dir, m.Arch, m.Parameters)
	}
	return nil
}

// read returns the corpus, which all models must read as the same tokens in the same windows.
func (c *compare) read(ctx context.Context, path string, m *eval.Model) (*eval.Corpus, error) {
	o := c.Quality
	o.MaxWindows *= reach
	d, err := eval.LoadCorpus(ctx, c.Data, m, o)
	if err != nil {
		return nil, err
	}
	d.Spread(c.Quality.MaxWindows)
	switch {
	case c.corpus == nil:
		c.corpus, c.Quality.SeqLen = d, d.Window
		if c.FitContext {
			c.Latency.Context = eval.Fit(m.Arch, c.Latency.Context+1) - 1
		}
	case d.Window != c.corpus.Window || !slices.Equal(d.IDs, c.corpus.IDs):
		return nil, fmt.Errorf("%s splits %s into other tokens than %s, so their losses cannot be compared: they need the same tokenizer", path, c.Data, c.Models[0])
	}
	return d, nil
}

// unknownMethod is the method of a model that is not known to be converted.
const unknownMethod = "unknown"

// methodOf returns the method of a conversion, as its record says.
func methodOf(m *eval.Model, path string) string {
	folder := m.Dir
	if _, ok := eval.GGUF(path); ok { // m.Dir is that of the checkpoint that it was made of
		folder = path
	}
	if method := recordOf(folder).Method; method != "" {
		return string(method)
	}
	switch {
	case m.Arch.IsLatent():
		return string(convert.MethodLatent)
	case m.Arch.KVHeads == m.Arch.Heads:
		return report.MethodMHA
	}
	return unknownMethod
}
