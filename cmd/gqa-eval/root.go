package main

import (
	"io"

	"github.com/spf13/cobra"

	"gqa/internal/cli"
	"gqa/internal/cli/advice"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gqa-eval",
		Short: "Measure a model's quality and decode latency, and the trade-off over group counts",
		Example: `  gqa-eval sweep                                   # on the embedded sample
  gqa-eval compare my-model/ my-model-gqa8/ --data val.txt -o comparison
  gqa-eval quality my-model/ --data val.txt --teacher my-mha-model/
  gqa-eval latency my-model/ --batch 8 --context 2048`,
	}
	root.AddCommand(newSweep(), newCompare(), newQuality(), newTasks(), newLatency(), newReport(), newGate(), newLogits(), newGenerate(), newKV(), newPredict())
	advice.Wrap(root)
	return root
}

// printer is a set of figures that can print itself as text.
type printer interface{ Print(w io.Writer) error }

func show(cmd *cobra.Command, asJSON bool, figures printer) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), figures)
	}
	return figures.Print(cmd.OutOrStdout())
}
