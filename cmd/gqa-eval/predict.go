package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/configs/hardware"
	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/limits"
)

// predictFlags holds the values of gqa-eval predict's flags.
type predictFlags struct {
	hardware string
	o        eval.PredictOptions
	asJSON   bool
}

const predictHelp = `Predict prefill and decode on hardware that need not be there, at every group count, of MODEL (a folder or a file of weights, none of
which are read) or of SHAPE (the name of a published model, or a shape such as
layers=32,heads=32,dim=4096,ffn=11008,vocab=32000,context=4096). A prediction adds up what a pass reads and computes, at speeds that were measured; docs/predict.md says how far
predictions were from measurements. A MODEL that gqa-convert --target mla can convert also has rows for latent attention, as in kv. The default --context and --prompt-len are reduced if the model has fewer positions.`

func newPredict() *cobra.Command {
	var p predictFlags
	cmd := &cobra.Command{
		Use:   "predict MODEL|SHAPE --hardware NAME",
		Short: "Predict prefill, decode and the largest batch on a GPU or processor, by number of groups",
		Long:  predictHelp,
		Args:  cli.Args("MODEL"),
		RunE:  func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	p.add(cmd.Flags())
	return cmd
}

func (p *predictFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.hardware, "hardware", "", "a file such as docs/extending/hardware.md describes, or "+strings.Join(hardware.Names(), ", "))
	f.IntSliceVar(&p.o.Batches, "batch", []int{1}, "batch sizes")
	f.IntSliceVar(&p.o.Contexts, "context", []int{512}, "context lengths: tokens in the cache")
	cli.NumberVar(f, &p.o.PromptLen, "prompt-len", 128, 0, limits.Tokens, "tokens per sequence for the prefill (0: none)")
	cli.EnumVar(f, &p.o.Weights, "dtype", "bf16", "data type of the weights in memory", "f32", "bf16", "f16")
	cli.EnumVar(f, &p.o.Cache, "kv-dtype", "bf16", "data type of the KV cache", "f32", "bf16", "f16", "int8", "int4")
	f.BoolVar(&p.asJSON, "json", false, "print the results as JSON")
}

func (p *predictFlags) run(cmd *cobra.Command, model string) error {
	if p.hardware == "" {
		return cli.Usagef("give --hardware: a file, or one of %s", strings.Join(hardware.Names(), ", "))
	}
	if err := p.check(); err != nil {
		return err
	}
	h, err := hardware.Load(p.hardware)
	if err != nil {
		return cli.Usagef("--hardware: %w", err)
	}
	s, err := shapeNamed(model)
	if err != nil {
		return err
	}
	p.fit(cmd.Flags(), s)
	rows, err := eval.Predict(s, h, p.o)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	if p.asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), rows)
	}
	return eval.WritePredictions(cmd.OutOrStdout(), h, p.o, rows)
}

// fit reduces default lengths to those that a shape has positions for.
func (p *predictFlags) fit(f *pflag.FlagSet, s eval.Shape) {
	if s.Positions == 0 {
		return
	}
	if !f.Changed("context") {
		p.o.Contexts[0] = max(1, min(p.o.Contexts[0], s.Positions-1))
	}
	if !f.Changed("prompt-len") {
		p.o.PromptLen = min(p.o.PromptLen, s.Positions)
	}
}

// check returns an error for lists with numbers out of range.
func (p *predictFlags) check() error {
	for _, list := range []struct {
		flag   string
		values []int
		most   int
	}{{"batch", p.o.Batches, limits.Batch}, {"context", p.o.Contexts, limits.Tokens}} {
		if len(list.values) == 0 || slices.Min(list.values) < 1 || slices.Max(list.values) > list.most {
			return cli.Usagef("--%s is %v, want numbers from 1 to %d with commas between them", list.flag, list.values, list.most)
		}
	}
	return nil
}
