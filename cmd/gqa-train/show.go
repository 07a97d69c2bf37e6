package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gqa/internal/cli"
	"gqa/train"
)

// follow does a run's work under a progress bar or, without a terminal, with a log line for each logged step, and prints
// the outcome.
func follow(cmd *cobra.Command, printJSON bool, address string, o train.Options, work func(train.Options) (*train.Status, error)) error {
	o.Tasks = loadTasks
	writes, err := first()
	if err != nil {
		return cli.UsageError{Err: err}
	}
	if !writes {
		_, err := work(o)
		return told(err)
	}
	served, err := openEndpoint(address)
	if err != nil {
		return err
	}
	defer served.Close()
	w := watcher{served: served, bar: cli.CommandProgress(cmd, 0, "reading model and data, first step", false)}
	w.start = func(steps int) *cli.Progress { return cli.CommandProgress(cmd, int64(steps), "training", false) }
	o.Observe = w.observe
	s, err := work(o)
	w.bar.Done()
	if err != nil {
		return told(err)
	}
	if s.Idle {
		slog.Warn("this run is already finished; to train longer, use --set steps=N", "run", s.Run, "steps", s.Steps)
	}
	return printStatus(cmd, s, printJSON)
}

// watcher shows steps as they are made.
type watcher struct {
	start func(steps int) *cli.Progress
	bar   *cli.Progress
	step  int // the last one seen; 0 if there was none

	served *endpoint
}

func (w *watcher) observe(p train.Progress) {
	w.served.observe(p)
	if w.step == 0 {
		w.bar.Done()
		w.bar = w.start(p.Steps)
		w.bar.Skip(int64(p.Step - 1))
		w.step = p.Step - 1
	}
	w.bar.Describe(fmt.Sprintf("%s, %s tokens/s", lossText(p.Metrics), quantity(p.Pace)))
	w.bar.Add(int64(p.Step - w.step))
	w.step = p.Step
	switch {
	case w.bar != nil && (p.ValidLoss != nil || p.Metrics.Tasks != nil): // above the bar
		slog.Info("validation", append([]any{"step", p.Step, "of", p.Steps}, validFields(p.Metrics)...)...)
	case w.bar == nil && p.Logged:
		fields := []any{"step", p.Step, "of", p.Steps, "loss", figure(float64(p.Loss))}
		if p.KL != nil {
			fields = append(fields, "kl", figure(*p.KL), "ce", figure(*p.CE))
		}
		fields = append(fields, "grad_norm", figure(float64(p.GradNorm)), "lr", figure(p.LR), "tokens_per_s", quantity(p.Pace))
		slog.Info("training", append(fields, validFields(p.Metrics)...)...)
	}
}

// lossText describes the parts of a step's loss if there is a teacher.
func lossText(m train.Metrics) string {
	if m.KL == nil {
		return fmt.Sprintf("loss %.4f", m.Loss)
	}
	return fmt.Sprintf("kl %.4f, ce %.4f", *m.KL, *m.CE)
}

// validFields returns the fields of a log line with a validation: the model's cross-entropy and, with a teacher, the original's;
// and the figures of tasks.
func validFields(m train.Metrics) (fields []any) {
	switch {
	case m.ValidLoss == nil:
	case m.Original == nil:
		fields = append(fields, "valid_loss", figure(*m.ValidLoss))
	default:
		fields = append(fields, "valid_ce", figure(*m.ValidLoss), "original_valid_ce", figure(*m.Original))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Tasks)) {
		fields = append(fields, name, figure(float64(m.Tasks[name])))
	}
	return fields
}

func printStatus(cmd *cobra.Command, s *train.Status, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), s)
	}
	return writeStatus(cmd.OutOrStdout(), s)
}

func writeStatus(out io.Writer, s *train.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", values...) }
	row("run", "%s", s.Run)
	row("state", "%s", s.State)
	row("step", "%d of %d", s.Step, s.Steps)
	row("saved", "%s", savedAs(s.Saved))
	row("tokens", "%s", quantity(float64(s.Tokens)))
	if s.Skipped > 0 {
		row("skipped", "%d steps", s.Skipped)
	}
	if s.Loss != nil {
		row("loss", "%.4f", *s.Loss)
		if s.KL != nil {
			row("kl", "%.4f", *s.KL)
			row("ce", "%.4f", *s.CE)
		}
		row("tokens/s", "%s", quantity(s.TokensPerS))
	}
	switch {
	case s.ValidLoss == nil:
	case s.Original == nil:
		row("validation loss", "%.4f", *s.ValidLoss)
	default:
		row("validation ce", "%.4f", *s.ValidLoss)
		row("the original's", "%.4f", *s.Original)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Tasks)) {
		row(name, "%.4f", float64(s.Tasks[name]))
	}
	if s.Best > 0 {
		row("best", "%s", savedAs(s.Best))
	}
	if s.ETA != nil {
		row("time left", "%v", time.Duration(*s.ETA*float64(time.Second)).Round(time.Second))
	}
	if s.Model != "" {
		row("model", "%s", s.Model)
	}
	return w.Flush()
}

func savedAs(step int) string {
	if step == 0 {
		return "nothing yet"
	}
	return fmt.Sprintf("step %d", step)
}

// quantity formats a count in few digits: 950, 4.1k, 2.5M.
func quantity(x float64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if x < 999.5 || unit == "G" {
			if unit == "" {
				return fmt.Sprintf("%.0f", x)
			}
			return fmt.Sprintf("%.3g%s", x, unit)
		}
		x /= 1000
	}
	return "" // unreachable: the last unit fits everything
}

func figure(x float64) string { return fmt.Sprintf("%.4g", x) }
