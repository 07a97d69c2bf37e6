package main

import (
	"io"

	"github.com/spf13/cobra"

	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gqa-eval",
		Short: "Measure a model's quality and decode latency, and the trade-off over group counts",
		Example: `  gqa-eval sweep                                   # on the embedded sample
  gqa-eval quality my-model/ --data val.txt --teacher my-mha-model/
  gqa-eval latency my-model/ --batch 8 --context 2048`,
	}
	root.AddCommand(newSweep(), newQuality(), newLatency(), newReport(), newGate(), newLogits(), newGenerate(), newKV())
	advice.Wrap(root)
	return root
}

// printer is a set of figures that prints itself for a person.
type printer interface{ Print(w io.Writer) error }

func show(cmd *cobra.Command, asJSON bool, figures printer) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), figures)
	}
	return figures.Print(cmd.OutOrStdout())
}

func newReport() *cobra.Command {
	var format, output string
	cmd := &cobra.Command{
		Use:   "report DIR",
		Short: "Write a report in one format",
		Args:  cli.Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := readReport(args[0])
			if err != nil {
				return err
			}
			return writeOutput(cmd, output, func(w io.Writer) error { return r.Render(w, format) })
		},
	}
	cli.EnumVar(cmd.Flags(), &format, "format", "md", "what to write", report.Formats()...)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func newGate() *cobra.Command {
	var baseline string
	limits := report.DefaultLimits
	cmd := &cobra.Command{
		Use:   "gate DIR --baseline FILE",
		Short: "Fail if a report is worse than a baseline",
		Long: `Compare a report with a baseline. If a figure is worse, print a line for it and exit with status 1. Every point of the
baseline must exist, up-trained if the baseline's is. If both reports use the same corpus, a loss may rise by at most
--max-loss-increase; otherwise by at most three joint standard errors, if that is more. KV bytes must not rise. A decode time
may rise by at most --max-latency-increase.`,
		Args: cli.Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if baseline == "" {
				return cli.Usagef("--baseline is missing: the report.json to compare with")
			}
			return gate(cmd, args[0], baseline, limits)
		},
	}
	f := cmd.Flags()
	f.StringVar(&baseline, "baseline", "", "report.json of the accepted figures, or its folder")
	cli.NumberVar(f, &limits.MaxLossIncrease, "max-loss-increase", limits.MaxLossIncrease, 0, 1000, "allowed increase of a loss on the same corpus, in nats per token")
	cli.NumberVar(f, &limits.MaxLatencyIncrease, "max-latency-increase", limits.MaxLatencyIncrease, 0, 1000, "allowed increase of a decode time, as a fraction (0: do not check)")
	return cmd
}
