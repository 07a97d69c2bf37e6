package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/cli"
	"gqa/internal/stream"
	"gqa/internal/sweep"
)

// sweepFlags are gqa-eval sweep's, as given.
type sweepFlags struct {
	model, data, valid, recipe, output string
	groups                             []int
	methods                            []string
	steps                              int
	set                                []string
	force, asJSON, stepsGiven          bool
	o                                  sweep.Options
}

func newSweep() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Convert, up-train and evaluate over group counts, and report quality against latency",
		Long: `Convert a model to each number of groups, up-train each conversion, evaluate everything, and write the report of quality
against decode latency. Without arguments it does so with the embedded sample model and corpus in a few minutes. A sweep that
was interrupted goes on where it stopped when the same command is given again.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.stepsGiven = cmd.Flags().Changed("steps")
			return runSweep(cmd, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", "multi-head model to convert (default: the embedded sample)")
	fl.StringVar(&f.data, "data", "", "corpus to up-train on (default, with the sample: its own)")
	fl.StringVar(&f.valid, "valid", "", "corpus to evaluate on, which the up-training must not see (default, with the sample: its own)")
	fl.IntSliceVar(&f.groups, "groups", []int{8, 4, 2, 1}, "KV heads of the conversions; as many as the model has is the control")
	fl.StringSliceVar(&f.methods, "methods", []string{string(convert.Mean)}, fmt.Sprintf("conversion methods, of %v", convert.Methods))
	fl.IntVar(&f.steps, "steps", 0, "up-training steps per conversion; 0: none (default: the recipe's)")
	fl.StringVar(&f.recipe, "recipe", "sweep", "recipe of the up-trainings: a file or an embedded one")
	fl.StringArrayVar(&f.set, "set", nil, "change a key of the recipe, such as optimizer.lr=3e-4")
	fl.IntVar(&f.o.EvalWindows, "eval-windows", 40, "windows of the recipe's seq_len to evaluate on; 0: all")
	fl.IntVar(&f.o.Batch, "batch", 8, "sequences of the timed decode")
	fl.IntVar(&f.o.Context, "context", 2048, "tokens in the cache of the timed decode")
	fl.Int64Var(&f.o.OriginalTokens, "original-tokens", 0, "tokens that the model was pre-trained on, which alpha is a share of")
	fl.Uint64Var(&f.o.Seed, "seed", 0, "seed of --methods random")
	fl.StringVarP(&f.output, "output", "o", sweep.ReportFolder, "folder of the sweep")
	fl.BoolVar(&f.force, "force", false, "replace a sweep with other options")
	fl.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	return cmd
}

// options fills in the sample's data, and the recipe.
func (f sweepFlags) options() (sweep.Options, error) {
	o := f.o
	o.Model, o.Data, o.Valid, o.Groups = f.model, f.data, f.valid, f.groups
	for _, m := range f.methods {
		if !slices.Contains(convert.Methods, m) {
			return o, cli.Usagef("--methods: %q is unknown; want one of %v", m, convert.Methods)
		}
		o.Methods = append(o.Methods, convert.Method(m))
	}
	switch {
	case f.model == "":
		o.Data, o.Valid = cmp.Or(f.data, stream.SamplePrefix+"train"), cmp.Or(f.valid, stream.SamplePrefix+"val")
	case f.valid == "", f.data == "" && !(f.stepsGiven && f.steps == 0):
		return o, cli.Usagef("--model needs --valid, a corpus to evaluate on, and, unless --steps is 0, --data, one to up-train on")
	}
	if f.steps < 0 || o.EvalWindows < 0 || o.Batch < 1 || o.Context < 1 || len(f.groups) == 0 || len(f.methods) == 0 {
		return o, cli.Usagef("--steps and --eval-windows want 0 or more, --batch and --context 1 or more, --groups and --methods something")
	}
	var err error
	o.Recipe, err = f.sweepRecipe()
	o.OriginalTokens = cmp.Or(o.OriginalTokens, o.Recipe.OriginalTokens)
	if err == nil && f.model == "" {
		o.OriginalTokens = cmp.Or(o.OriginalTokens, sweep.SampleTokens())
	}
	return o, err
}

func (f sweepFlags) sweepRecipe() (configs.Recipe, error) {
	r, err := configs.LoadRecipe(f.recipe)
	if err != nil {
		return r, cli.Usagef("--recipe: %w", err)
	}
	for _, s := range f.set {
		if err := r.Set(s); err != nil {
			return r, cli.Usagef("--set %s: %w", s, err)
		}
	}
	if f.stepsGiven {
		r.Steps, r.Alpha = f.steps, 0
	}
	return resolved(r)
}

// resolved works out the recipe's steps and validates it but for model and data, which each up-training has its own.
func resolved(r configs.Recipe) (configs.Recipe, error) {
	none := r.Steps == 0 && r.Alpha == 0
	if none {
		r.Steps = 1
	}
	r.Model, r.Data = "any", "any"
	if err := r.Resolve(); err != nil {
		return r, cli.Usagef("recipe: %w", err)
	}
	if none {
		r.Steps, r.Alpha = 0, 0
	}
	r.Model, r.Data = "", ""
	return r, nil
}

func runSweep(cmd *cobra.Command, f sweepFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	var bar *cli.Progress
	defer func() { bar.Done() }()
	report, err := sweep.Run(cmd.Context(), f.output, o, f.force, sweep.Watcher{
		Stage: func(name string, steps int) {
			bar.Done()
			bar = cli.CommandProgress(cmd, int64(max(steps, 1)), name, false)
		},
		Step: func() { bar.Add(1) },
	})
	bar.Done()
	if errors.Is(err, convert.ErrGroups) {
		return cli.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), report)
	}
	if err := report.Render(cmd.OutOrStdout(), "md"); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nwrote %s\n", filepath.Join(f.output, "report.html"))
	return err
}
