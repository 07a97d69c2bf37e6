package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/limits"
	"gqa/internal/sweep"
)

// compareFlags holds the values of gqa-eval compare's flags.
type compareFlags struct {
	o      sweep.CompareOptions
	output string
	asJSON bool
}

const compareHelp = `Measure models that exist already, and write the same report as a sweep: quality and decode latency, each compared with BASE.
Nothing is converted or trained. A model is a folder, or a file of weights; the folder of a gqa-train run stands for its result.
All models must have the tokenizer of BASE.

Every model predicts the same windows of --data, so the report can say how large the difference of two losses is even where it is far
smaller than the standard error of each.`

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
	fl.StringVar(&f.o.Data, "data", "", "data to predict: text (.txt, .jsonl, .json, source code, or a folder), .safetensors with input_ids, or sample:val")
	fl.StringVar(&f.o.Quality.TextKey, "text-key", "", "`KEY` of the text in JSON records (default text)")
	cli.NumberVar(fl, &f.o.Quality.SeqLen, "seq-len", 0, 0, limits.Tokens, "tokens per window (default: the context of BASE, at most 2048)")
	cli.NumberVar(fl, &f.o.Quality.MaxWindows, "max-windows", 0, 0, limits.Count, "maximum number of windows, from the start (0: all)")
	fl.Uint64Var(&f.o.Quality.Seed, "seed", 0, "random seed for choosing the tokens to predict, for BERT and T5")
	cli.NumberVar(fl, &f.o.Latency.Batch, "batch", 8, 1, limits.Batch, "batch size of the latency measurement")
	cli.NumberVar(fl, &f.o.Latency.Context, "context", 2048, 1, limits.Tokens, "context length of the latency measurement")
	addDevice(fl, &f.o.Device)
	fl.StringVarP(&f.output, "output", "o", "", "output folder: a new one, or one with a report, which is replaced")
	fl.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
}

func (f *compareFlags) run(cmd *cobra.Command) error {
	switch {
	case f.o.Data == "":
		return cli.Usagef("--data is missing: a .txt, .jsonl or source file, a folder of them, or a .safetensors file with input_ids")
	case f.output == "":
		return cli.Usagef("--output is missing: the folder for the report")
	case f.o.Quality.SeqLen == 1:
		return cli.Usagef("--seq-len is 1, want 2 or more, or 0, the default")
	}
	f.o.FitContext = !cmd.Flags().Changed("context")
	show := &sweepBar{cmd: cmd}
	r, err := sweep.Compare(cmd.Context(), f.output, f.o, sweep.Watcher{Stage: show.stage, Step: func() { show.bar.Add(1) }})
	show.bar.Done()
	if errors.As(err, new(eval.WindowError)) {
		err = fmt.Errorf("--seq-len: %w", err)
	}
	if err != nil {
		return err
	}
	return printReport(cmd.OutOrStdout(), r, f.asJSON, filepath.Join(f.output, "report.html"))
}
