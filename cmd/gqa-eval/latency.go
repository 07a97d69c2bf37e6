package main

import (
	"errors"
	"slices"
	"strings"

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
	device, shape, dtype         string
	groups                       []int
	batches, contexts, windows   []int
	kvDTypes                     []string
	promptLen, sinks             int
	timing                       eval.Timing
	asJSON                       bool
	contextGiven, promptLenGiven bool
}

const latencyHelp = `Time prefill and decode on this machine: for one or more models or, with --shape, for Llamas with random weights and the size of a
published model. For decode, the cache is filled with random values, so long contexts need no prefill. The default --context and
--prompt-len are reduced if a model has fewer positions.

--batch, --context, --kv-dtype, --window and, for a --shape, --groups take lists. Every combination is then a cell. All cells are timed
in turn, in rounds, so that what slows down the machine for a while slows down all of them. Each time is the median over rounds, with
a 95% interval; each ratio is the median of the ratios within a round. Where the interval of a ratio includes 1, the difference is
'within noise'. Models and caches of all cells are in memory at the same time.

--kv-dtype int8 and int4 keep keys and values as integers with a scale per token and KV head. --window keeps only the last tokens of a
sequence and the first --sinks (StreamingLLM).`

func newLatency() *cobra.Command {
	var l latencyFlags
	cmd := &cobra.Command{
		Use:   "latency [MODEL...]",
		Short: "Time prefill and decode of one or more models",
		Long:  latencyHelp,
		Example: `  gqa-eval latency my-model my-model-gqa8 --batch 1,8 --context 2048,8192
  gqa-eval latency --shape llama-2-7b --groups 32,8,1 --dtype bf16 --kv-dtype bf16,int8,int4`,
		Args: cli.Args("[MODEL...]"),
		RunE: func(cmd *cobra.Command, args []string) error { return l.run(cmd, args) },
	}
	l.add(cmd.Flags())
	return cmd
}

func (l *latencyFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.shape, "shape", "", "name of a published shape; gqa-eval kv lists them")
	cli.NumbersVar(f, &l.groups, "groups", []int{0}, 0, limits.Heads, "numbers of KV heads for --shape (0: the shape's own)")
	cli.NumbersVar(f, &l.batches, "batch", []int{1}, 1, limits.Batch, "batch sizes")
	cli.NumbersVar(f, &l.contexts, "context", []int{512}, 1, limits.Tokens, "context lengths: tokens in the cache")
	cli.NumberVar(f, &l.promptLen, "prompt-len", 128, 0, limits.Tokens, "tokens per sequence for the prefill measurement (0: none)")
	cli.EnumVar(f, &l.dtype, "dtype", "f32", "data type of the weights in memory", "f32", "bf16", "f16")
	cli.EnumsVar(f, &l.kvDTypes, "kv-dtype", []string{"f32"}, "data types of the KV cache", eval.KVDTypes...)
	cli.NumbersVar(f, &l.windows, "window", []int{0}, 0, limits.Tokens, "numbers of last tokens that the KV cache keeps (0: all)")
	addSinks(f, &l.sinks)
	addRounds(f, &l.timing)
	addDevice(f, &l.device)
	f.BoolVar(&l.asJSON, "json", false, "print the results as JSON")
}

// addRounds adds the flags for how long latencies are measured.
func addRounds(f *pflag.FlagSet, t *eval.Timing) {
	cli.NumberVar(f, &t.Rounds, "rounds", eval.DefaultTiming.Rounds, 6, 1000, "rounds in which latencies are measured")
	cli.NumberVar(f, &t.Seconds, "seconds", eval.DefaultTiming.Seconds, 0.01, limits.Count, "seconds for which each cell is timed, in all rounds together")
}

func (l *latencyFlags) run(cmd *cobra.Command, args []string) error {
	if err := l.check(args); err != nil {
		return err
	}
	l.contextGiven, l.promptLenGiven = cmd.Flags().Changed("context"), cmd.Flags().Changed("prompt-len")
	models, err := l.models(cmd, args)
	if err != nil {
		return err
	}
	var machine eval.Machine
	if models[0].Model.DeviceName() == "" {
		machine = eval.MeasureMachine(cmd.Context())
	}
	figures, err := eval.MeasureLatencies(cmd.Context(), l.cells(models), machine, l.timing)
	switch {
	case errors.Is(err, eval.ErrDecode):
		return advice.Add(err, "give --prompt-len to time a pass over a prompt")
	case err != nil:
		return err
	case len(figures.Cells) == 1:
		return show(cmd, l.asJSON, figures.Cells[0])
	}
	return show(cmd, l.asJSON, figures)
}

// check returns an error about a flag that is wrong for every model.
func (l *latencyFlags) check(args []string) error {
	switch {
	case (l.shape == "") == (len(args) == 0):
		return cli.Usagef("give either MODEL or --shape")
	case l.shape == "" && !slices.Equal(l.groups, []int{0}):
		return cli.Usagef("--groups requires --shape; convert a model with gqa-convert --groups %d", l.groups[0])
	case l.sinks > 0 && slices.Equal(l.windows, []int{0}):
		return errSinks
	}
	return nil
}

// cells returns every combination of models and flags, ordered by batch and context.
func (l *latencyFlags) cells(models []eval.Cell) (cells []eval.Cell) {
	for _, batch := range l.batches {
		for _, context := range l.contexts {
			for _, c := range models {
				for _, window := range l.windows {
					for _, dtype := range l.kvDTypes {
						c.Batch, c.Context, c.PromptLen = batch, context, l.promptLen
						c.KV = eval.KVCache{DType: dtype, Window: window}
						if window > 0 {
							c.KV.Sinks = l.sinks
						}
						cells = append(cells, l.fitted(c))
					}
				}
			}
		}
	}
	return cells
}

// fitted reduces the default lengths to what a model can have.
func (l *latencyFlags) fitted(c eval.Cell) eval.Cell {
	if !l.contextGiven {
		c.Context = eval.Fit(c.Model.Arch, c.Context+1) - 1
	}
	if !l.promptLenGiven {
		c.PromptLen = eval.Fit(c.Model.Arch, c.PromptLen)
	}
	return c
}

// dtypes are the values of --dtype.
var dtypes = map[string]checkpoints.DType{"f32": checkpoints.F32, "bf16": checkpoints.BF16, "f16": checkpoints.F16}

// models loads the models, or creates those with the shape.
func (l *latencyFlags) models(cmd *cobra.Command, args []string) (models []eval.Cell, err error) {
	o := eval.ModelOptions{Weights: dtypes[l.dtype], Device: l.device}
	add := func(name string, m *eval.Model, err error) error {
		models = append(models, eval.Cell{Name: name, Model: m})
		return err
	}
	for _, path := range args {
		m, err := eval.LoadModel(cmd.Context(), path, o)
		if err := add(strings.TrimRight(path, "/"), m, err); err != nil {
			return nil, err
		}
	}
	if l.shape == "" {
		return models, nil
	}
	for _, groups := range l.groups {
		s, err := l.shapeOf(groups)
		if err != nil {
			return nil, err
		}
		m, err := eval.RandomModel(cmd.Context(), s, groups, o)
		if err := add(s.Name, m, err); err != nil {
			return nil, err
		}
	}
	return models, nil
}

func (l *latencyFlags) shapeOf(groups int) (eval.Shape, error) {
	s, err := eval.ShapeByName(l.shape)
	if err != nil {
		return s, cli.Usagef("--shape: %w", err)
	}
	if groups != 0 && !slices.Contains(s.Groups(), groups) {
		return s, cli.Usagef("--groups is %d, want one of %v for %s's %d heads", groups, s.Groups(), s.Name, s.Heads)
	}
	return s, nil
}
