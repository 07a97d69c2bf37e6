package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/checkpoints"
	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/limits"
)

// latencyFlags holds the values of gqa-eval latency's flags.
type latencyFlags struct {
	device                string
	shape, dtype, kvDType string
	groups                int
	o                     eval.LatencyOptions
	asJSON                bool
}

const latencyHelp = `Time prefill and decode on this machine: for a model or, with --shape, for a Llama with random weights and the size of a
published model. For decode, the cache is filled with random values, so long contexts need no prefill. The default --context and
--prompt-len are reduced if the model has fewer positions.`

func newLatency() *cobra.Command {
	var l latencyFlags
	cmd := &cobra.Command{
		Use:   "latency [MODEL]",
		Short: "Time a model's prefill and decode",
		Long:  latencyHelp,
		Args:  cli.Args("[MODEL]"),
		RunE:  func(cmd *cobra.Command, args []string) error { return l.run(cmd, args) },
	}
	l.add(cmd.Flags())
	return cmd
}

func (l *latencyFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.shape, "shape", "", "name of a published shape; gqa-eval kv lists them")
	cli.NumberVar(f, &l.groups, "groups", 0, 0, limits.Heads, "number of KV heads for --shape (0: the shape's own)")
	cli.NumberVar(f, &l.o.Batch, "batch", 1, 1, limits.Batch, "batch size")
	cli.NumberVar(f, &l.o.Context, "context", 512, 1, limits.Tokens, "context length: tokens in the cache")
	cli.NumberVar(f, &l.o.PromptLen, "prompt-len", 128, 0, limits.Tokens, "tokens per sequence for the prefill measurement (0: none)")
	cli.EnumVar(f, &l.dtype, "dtype", "f32", "data type of the weights in memory", "f32", "bf16", "f16")
	cli.EnumVar(f, &l.kvDType, "kv-dtype", "f32", "data type of the KV cache", "f32", "bf16", "f16")
	addDevice(f, &l.device)
	f.BoolVar(&l.asJSON, "json", false, "print the results as JSON")
}

func (l *latencyFlags) run(cmd *cobra.Command, args []string) error {
	m, err := l.model(cmd, args)
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("context") {
		l.o.Context = eval.Fit(m.Arch, l.o.Context+1) - 1
	}
	if !cmd.Flags().Changed("prompt-len") {
		l.o.PromptLen = eval.Fit(m.Arch, l.o.PromptLen)
	}
	var machine eval.Machine
	if m.DeviceName() == "" {
		machine = eval.MeasureMachine(cmd.Context())
	}
	figures, err := eval.MeasureLatency(cmd.Context(), m, machine, l.o)
	if errors.Is(err, eval.ErrDecode) {
		return advice.Add(err, "give --prompt-len to time a pass over a prompt")
	}
	if err != nil {
		return err
	}
	return show(cmd, l.asJSON, figures)
}

// dtypes are the values of --dtype and --kv-dtype.
var dtypes = map[string]checkpoints.DType{"f32": checkpoints.F32, "bf16": checkpoints.BF16, "f16": checkpoints.F16}

// model loads the model, or creates one with the shape.
func (l *latencyFlags) model(cmd *cobra.Command, args []string) (*eval.Model, error) {
	o := eval.ModelOptions{Weights: dtypes[l.dtype], Cache: dtypes[l.kvDType], Device: l.device}
	switch {
	case l.shape != "" && len(args) == 0:
		s, err := l.shapeOf()
		if err != nil {
			return nil, err
		}
		return eval.RandomModel(cmd.Context(), s, l.groups, o)
	case l.shape == "" && len(args) == 1:
		if l.groups != 0 {
			return nil, cli.Usagef("--groups requires --shape; convert a model with gqa-convert --groups %d", l.groups)
		}
		return eval.LoadModel(cmd.Context(), args[0], o)
	}
	return nil, cli.Usagef("give either MODEL or --shape")
}

func (l *latencyFlags) shapeOf() (eval.Shape, error) {
	s, err := eval.ShapeByName(l.shape)
	if err != nil {
		return s, cli.Usagef("--shape: %w", err)
	}
	if l.groups != 0 && !slices.Contains(s.Groups(), l.groups) {
		return s, cli.Usagef("--groups is %d, want one of %v for %s's %d heads", l.groups, s.Groups(), s.Name, s.Heads)
	}
	return s, nil
}
