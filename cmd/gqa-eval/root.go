package main

import (
	"io"

	"github.com/spf13/cobra"

	"gqa/eval/report"
	"gqa/internal/cli"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gqa-eval",
		Short: "Measure a model's quality, its decode latency, and the trade-off over the number of groups",
		Example: `  gqa-eval sweep                                   # the embedded sample: convert, up-train, evaluate, report
  gqa-eval quality my-model/ --data val.txt --teacher my-mha-model/
  gqa-eval latency my-model/ --batch 8 --context 2048`,
	}
	root.AddCommand(newSweep(), newQuality(), newLatency(), newReport(), newGate(), newLogits(), newGenerate(), newKV())
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
			r, err := report.Read(args[0])
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
		Short: "Fail if a report is worse than an earlier one",
		Long: `Fail if a report is worse than an earlier one: exit status 1, with a line for each figure that is. Every point of the
baseline must be there, up-trained if that one was. Its loss may rise by --max-loss-increase and no more if both reports have the
same corpus, as the same windows are scored; between different corpora three joint standard errors are allowed where that is
more. Its KV bytes may not rise; its decode time may by --max-latency-increase.`,
		Args: cli.Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if baseline == "" {
				return cli.Usagef("--baseline is missing: the report.json to compare with")
			}
			return gate(cmd, args[0], baseline, limits)
		},
	}
	f := cmd.Flags()
	f.StringVar(&baseline, "baseline", "", "report.json, or the folder that holds it, of the accepted figures")
	cli.NumberVar(f, &limits.MaxLossIncrease, "max-loss-increase", limits.MaxLossIncrease, 0, 1000, "nats per token that a loss may rise on the same corpus; on another, three joint standard errors if more")
	cli.NumberVar(f, &limits.MaxLatencyIncrease, "max-latency-increase", limits.MaxLatencyIncrease, 0, 1000, "share that a decode time may rise; 0: not looked at")
	return cmd
}
