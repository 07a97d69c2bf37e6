package main

import (
	"cmp"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/sweep"
)

// compareFlags holds the values of gqa-eval compare's flags.
type compareFlags struct {
	corpusFlags
	o      sweep.CompareOptions
	output string
	asJSON bool
	rules  report.Rules
}

const compareHelp = `Measure models that exist already, and write the same report as a sweep: quality and decode latency, each compared with BASE.
Nothing is converted or trained. A model is a folder, or a file of weights; the folder of a gqa-train run stands for its result.
All models must have the tokenizer of BASE.

All models predict the same windows of --data. The report therefore gives an interval for each difference in loss, which is much
narrower than the standard errors of the two losses. Those of tasks (--task) are paired by item.`

func newCompare() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:     "compare BASE MODEL... --data FILE -o DIR",
		Short:   "Measure any models and report quality against latency",
		Long:    compareHelp,
		Example: "  gqa-eval compare my-model my-model-gqa8 runs/uptrain --data held-out.txt -o comparison",
		Args:    cli.Args("BASE", "MODEL..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.o.Models = args
			return f.run(cmd)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *compareFlags) add(fl *pflag.FlagSet) {
	f.corpusFlags.add(fl, "BASE")
	fl.Lookup("max-windows").Usage = "number of windows, spread over the text (0: all)"
	addTasks(fl, &f.o.Tasks)
	addTiming(fl, &f.o.Latency.Batch, &f.o.Latency.Context, &f.o.Timing)
	addRules(fl, &f.rules)
	addDevice(fl, &f.o.Device)
	fl.StringVarP(&f.output, "output", "o", "", "output folder: a new one, or one with a report, which is replaced")
	fl.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
}

func (f *compareFlags) run(cmd *cobra.Command) error {
	if err := cmp.Or(f.check(), checkTasks(f.o.Tasks)); err != nil {
		return err
	}
	if f.output == "" {
		return cli.Usagef("--output is missing: the folder for the report")
	}
	f.o.Data, f.o.Quality, f.o.About = f.corpus, f.corpusFlags.o, about(cmd, f.rules)
	f.o.FitContext = !cmd.Flags().Changed("context")
	show := &sweepBar{cmd: cmd}
	r, err := sweep.Compare(cmd.Context(), f.output, f.o, sweep.Watcher{Stage: show.stage, Step: func() { show.bar.Add(1) }})
	show.bar.Done()
	if errors.Is(err, eval.ErrDecode) {
		err = advice.Add(err, adviceEncoder)
	}
	if err != nil {
		return windowError(err)
	}
	return printReport(cmd.OutOrStdout(), r, f.asJSON, filepath.Join(f.output, "report.html"))
}
