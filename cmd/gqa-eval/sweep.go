package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"gqa/configs"
	"gqa/convert"
	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/stream"
	"gqa/internal/sweep"
	"gqa/train"
)

// sweepFlags are gqa-eval sweep's, as given.
type sweepFlags struct {
	model, data, valid, recipe, output string
	groups                             []int
	methods                            []string
	steps                              int
	set                                []string
	force, asJSON                      bool
	given                              func(flag string) bool
	o                                  sweep.Options
}

func newSweep() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Convert, up-train and evaluate over group counts, and report quality against latency",
		Long: `Convert a model to each number of groups, up-train each conversion, evaluate everything, and write the report of quality
against decode latency. Without arguments it does so with the embedded sample model and corpus in a few minutes. A sweep that
was interrupted goes on where it stopped when the same command is given again; with --force it begins anew.

Where --groups is not given, the model says over what: its KV heads, then always the largest number that divides the one before
(8,4,2,1 of 8; 12,6,3,1 of 12). Where --context or the recipe's seq_len is not given and the model has fewer positions, it is
as much as the model has.

If an up-training diverges, the report is written without its point, and the exit status is 1.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed
			return runSweep(cmd, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", "multi-head model to convert (default: the embedded sample)")
	fl.StringVar(&f.data, "data", "", "corpus to up-train on (default, with the sample: its own)")
	fl.StringVar(&f.valid, "valid", "", "corpus to evaluate on, which the up-training must not see (default, with the sample: its own)")
	fl.IntSliceVar(&f.groups, "groups", nil, "KV heads of the conversions; as many as the model has is the control (default: the model's own, halved down to 1)")
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
	fl.BoolVar(&f.force, "force", false, "replace the sweep in the folder, whatever its options: begin anew")
	fl.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	return cmd
}

// options fills in what was not given: the sample's data, what the model says, and the recipe.
func (f sweepFlags) options() (sweep.Options, error) {
	o := f.o
	o.Model, o.Data, o.Valid, o.Groups = f.model, f.data, f.valid, f.groups
	if err := f.check(); err != nil {
		return o, err
	}
	for _, m := range f.methods {
		o.Methods = append(o.Methods, convert.Method(m))
	}
	if f.model == "" {
		o.Data, o.Valid = cmp.Or(f.data, stream.SamplePrefix+"train"), cmp.Or(f.valid, stream.SamplePrefix+"val")
	}
	arch, err := sweep.Arch(f.model)
	if err != nil {
		return o, err
	}
	if !f.given("groups") {
		o.Groups = sweep.Groups(arch.KVHeads)
	}
	if !f.given("context") {
		o.Context = eval.Fit(arch, o.Context+1) - 1
	}
	o.Recipe, err = f.sweepRecipe(arch)
	o.OriginalTokens = cmp.Or(o.OriginalTokens, o.Recipe.OriginalTokens)
	if err == nil && f.model == "" {
		o.OriginalTokens = cmp.Or(o.OriginalTokens, sweep.SampleTokens())
	}
	return o, err
}

// check finds the flag that is wrong whatever the model.
func (f sweepFlags) check() error {
	if f.model != "" && (f.valid == "" || f.data == "" && !(f.given("steps") && f.steps == 0)) {
		return cli.Usagef("--model needs --valid, a corpus to evaluate on, and, unless --steps is 0, --data, one to up-train on")
	}
	for _, m := range f.methods {
		if !slices.Contains(convert.Methods, m) {
			return cli.Usagef("--methods: %q is unknown; want one of %v", m, convert.Methods)
		}
	}
	return cmp.Or(
		atLeast("steps", f.steps, 0), atLeast("eval-windows", f.o.EvalWindows, 0), atLeast("batch", f.o.Batch, 1),
		atLeast("context", f.o.Context, 1), some("groups", f.groups, !f.given("groups")), some("methods", f.methods, false),
	)
}

// some checks a list that a flag gives: not empty, unless it may be, and nothing twice.
func some[T comparable](flag string, list []T, empty bool) error {
	if len(list) == 0 && !empty {
		return cli.Usagef("--%s is empty, want one or more", flag)
	}
	for i, x := range list {
		if slices.Contains(list[:i], x) {
			return cli.Usagef("--%s has %v twice", flag, x)
		}
	}
	return nil
}

func (f sweepFlags) sweepRecipe(arch *configs.Arch) (configs.Recipe, error) {
	r, err := configs.LoadRecipe(f.recipe)
	if err != nil {
		return r, cli.Usagef("--recipe: %w", err)
	}
	if !f.given("recipe") {
		r.SeqLen = eval.Fit(arch, r.SeqLen)
	}
	for _, s := range f.set {
		if err := r.Set(s); err != nil {
			return r, cli.Usagef("--set %s: %w", s, err)
		}
	}
	if f.given("steps") {
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
		return cli.Usagef("--%w", err)
	}
	if err != nil && !errors.Is(err, train.ErrDiverged) {
		return err
	}
	return cmp.Or(f.print(cmd.OutOrStdout(), report), err)
}

func (f sweepFlags) print(w io.Writer, report eval.Report) error {
	if f.asJSON {
		return cli.PrintJSON(w, report)
	}
	if err := report.Render(w, "md"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nwrote %s\n", filepath.Join(f.output, "report.html"))
	return err
}
