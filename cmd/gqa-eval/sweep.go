package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"gqa/convert"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/sweep"
	"gqa/train"
)

const (
	sweepHelp = `Convert a model to each group count, up-train each conversion, evaluate everything, and write a report of quality against
decode latency. Without arguments, it uses the embedded sample model and corpus and takes a few minutes. To continue an
interrupted sweep, run the same command again; --force starts over.

Each entry of --methods is one curve over the group counts: a method, followed by options that are joined by +:

  mean                        the paper's method: mean-pooled heads, up-trained on the data
  calibrated+similar+kl       heads are grouped so that the loss is smallest; the shared head is fitted on the text of
                              --calibration and up-trained with the original as teacher
  METHOD[+similar][+refine=STEPS][+ce|+kl|+mixed]
                              options as in gqa-convert's --method, --grouping and --refine and gqa-train's --loss
  mla[+refine=STEPS][+ce|+kl|+mixed]
                              multi-head latent attention (gqa-convert --target mla) whose cache takes as many bytes as
                              the groups'; a quarter of its numbers is rotary

The first two are the default; the second is left out if the model's attention does not support it. All curves are up-trained
with the same recipe (--recipe and --set) and for the same number of steps (--steps, or --alpha as a fraction of
--original-tokens, or the recipe's). With kl, the original model itself is not up-trained, since it would be its own teacher.

The default group counts are the model's number of KV heads and then, repeatedly, the largest proper divisor (8,4,2,1 for 8;
12,6,3,1 for 12). The default --context and seq_len are reduced if the model has fewer positions.

If an up-training diverges, the report is written without that point and the exit status is 1.`
	sweepExample = `  gqa-eval sweep
  gqa-eval sweep --model my-model --data corpus.jsonl --valid held-out.txt --groups 8,4,1
  gqa-eval sweep --methods mean,mean+kl,calibrated+kl,calibrated+similar+kl -o starts-and-losses`
)

func newSweep() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:     "sweep",
		Short:   "Convert, up-train and evaluate over group counts, and report quality against latency",
		Long:    sweepHelp,
		Example: sweepExample,
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed
			return runSweep(cmd, f)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func runSweep(cmd *cobra.Command, f sweepFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	if !f.given("output") {
		if err := advice.OutsideHub(); err != nil {
			return err
		}
	}
	o.About = about(cmd, f.rules)
	show := &sweepBar{cmd: cmd}
	r, err := sweep.Run(cmd.Context(), f.output, o, f.force, sweep.Watcher{Point: show.point, Stage: show.stage, Step: func() { show.bar.Add(1) }})
	show.bar.Done()
	switch err = f.advise(err); {
	case errors.Is(err, convert.ErrGroups):
		return cli.Usagef("--%w", err)
	case err != nil && !errors.Is(err, train.ErrDiverged):
		return err
	}
	return cmp.Or(printReport(cmd.OutOrStdout(), r, f.asJSON, filepath.Join(f.output, "report.html")), err)
}

// adviceEncoder is the advice for a model that does not decode.
const adviceEncoder = "use gqa-convert, gqa-train and gqa-eval quality"

// advise adds advice to an error of the sweep.
func (f sweepFlags) advise(err error) error {
	var diverged sweep.DivergedError
	var stop train.StopError
	switch {
	case errors.As(err, &diverged):
		return advice.Add(err, fmt.Sprintf("try a lower learning rate: --force --set optimizer.lr=%.2g", diverged.LR))
	case errors.Is(err, context.Canceled), errors.As(err, &stop) && stop.Run != "":
		without := ""
		if f.force {
			without = " without --force"
		}
		return advice.Add(err, fmt.Sprintf("the same command%s goes on with the sweep in %s", without, f.output))
	case errors.Is(err, eval.ErrDecode):
		return advice.Add(err, adviceEncoder)
	}
	return err
}

// sweepBar shows a sweep's progress: the current point, and the progress of the work on it.
type sweepBar struct {
	cmd        *cobra.Command
	bar        *cli.Progress
	number, of int
	left       func() (time.Duration, bool)
}

func (b *sweepBar) point(number, of int, left func() (time.Duration, bool)) {
	b.number, b.of, b.left = number, of, left
}

func (b *sweepBar) stage(name string, steps int) {
	b.bar.Done()
	b.bar = cli.CommandProgress(b.cmd, int64(steps), name, false)
	if number, of, left := b.number, b.of, b.left; number > 0 {
		b.bar.DescribeBy(func() string { return pointText(number, of, left, name) })
	}
}

// pointText returns the text beside the bar: point 3 of 14 (12m left in all), up-training 2-mean.
func pointText(number, of int, left func() (time.Duration, bool), work string) string {
	all := ""
	if d, ok := left(); ok {
		all = fmt.Sprintf(" (%v left in all)", d.Round(time.Second))
	}
	return fmt.Sprintf("point %d of %d%s, %s", number, of, all, work)
}

// printReport prints a report whose HTML form is in the file page.
func printReport(w io.Writer, r report.Report, asJSON bool, page string) error {
	if asJSON {
		return cli.PrintJSON(w, r)
	}
	if err := r.Render(w, "md"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nwrote %s\n", page)
	return err
}
