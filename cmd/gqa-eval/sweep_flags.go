package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/eval/tasks"
	"gqa/internal/cli"
	"gqa/internal/data"
	"gqa/internal/limits"
	"gqa/internal/sweep"
)

// sweepFlags holds the values of gqa-eval sweep's flags.
type sweepFlags struct {
	model, data, valid, recipe, output string
	textKey, device                    string
	groups                             []int
	methods                            []string
	steps                              int
	alpha                              float64
	set                                []string
	force, asJSON                      bool
	rules                              report.Rules
	given                              func(flag string) bool
	o                                  sweep.Options
}

func (f *sweepFlags) add(fl *pflag.FlagSet) {
	f.addData(fl)
	f.addMeasurement(fl)
	addRules(fl, &f.rules)
	addDevice(fl, &f.device)
	fl.StringVarP(&f.output, "output", "o", sweep.ReportFolder, "output folder")
	fl.BoolVar(&f.force, "force", false, "start over and replace the sweep in the folder; other files in it are kept")
	fl.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
}

// addData adds the flags for what is converted and up-trained.
func (f *sweepFlags) addData(fl *pflag.FlagSet) {
	fl.StringVar(&f.model, "model", "", "multi-head model to convert (default: the embedded sample)")
	fl.StringVar(&f.data, "data", "", "training data (default for the sample: its own corpus)")
	fl.StringVar(&f.valid, "valid", "", "evaluation data, which must not be part of the training data (default for the sample: its own)")
	fl.StringVar(&f.textKey, "text-key", "", "`KEY` of the text in JSON records (default: the recipe's text_key, or text)")
	fl.IntSliceVar(&f.groups, "groups", nil, "group counts to convert to; the model's own number of KV heads is the control (default: that number, then halved down to 1)")
	fl.StringSliceVar(&f.methods, "methods", nil, fmt.Sprintf("curves; each is one of the methods %v with options joined by + (default: mean,calibrated+similar+kl)", sweep.Methods))
	fl.StringVar(&f.o.Calibration, "calibration", "", "calibration text for align, calibrated, mla, similar and refine (default: --data)")
	cli.NumberVar(fl, &f.o.CalibrationTokens, "calibration-tokens", 32768, 1, limits.Count, "number of calibration tokens")
	cli.NumberVar(fl, &f.steps, "steps", 0, 0, limits.Count, "up-training steps per conversion (0: none; default: the recipe's)")
	cli.NumberVar(fl, &f.alpha, "alpha", 0, 0, 1, "up-training tokens per conversion as a fraction of --original-tokens, instead of --steps")
	fl.StringVar(&f.recipe, "recipe", "sweep", "recipe for up-training: a file or the name of an embedded recipe")
	fl.StringArrayVar(&f.set, "set", nil, "override a key of the recipe, such as optimizer.lr=3e-4 (repeatable)")
}

// addMeasurement adds the flags for what is measured.
func (f *sweepFlags) addMeasurement(fl *pflag.FlagSet) {
	cli.NumberVar(fl, &f.o.EvalWindows, "eval-windows", 160, 0, limits.Count, "number of evaluation windows of seq_len tokens, spread over up to 16 times as much text (0: all)")
	addTasks(fl, &f.o.Tasks)
	fl.Lookup("task").Usage += " (default for the sample: sample; none: no tasks)"
	addTiming(fl, &f.o.Batch, &f.o.Context, &f.o.Timing)
	cli.NumberVar(fl, &f.o.OriginalTokens, "original-tokens", 0, 0, limits.OriginalTokens, "number of tokens that the model was pre-trained on (for --alpha)")
	fl.Uint64Var(&f.o.Seed, "seed", 0, "random seed for method random, for calibration windows and for +similar")
}

// addTiming adds the flags for what is timed.
func addTiming(fl *pflag.FlagSet, batch, context *int, timing *eval.Timing) {
	cli.NumberVar(fl, batch, "batch", 8, 1, limits.Batch, "batch size of the latency measurement")
	cli.NumberVar(fl, context, "context", 2048, 1, limits.Tokens, "context length of the latency measurement")
	addRounds(fl, timing)
}

// options fills in what was not given: the sample's data, the model's defaults, and the recipe.
func (f sweepFlags) options() (o sweep.Options, err error) {
	if err := f.check(); err != nil {
		return o, err
	}
	o = f.withData()
	if err := checkTasks(o.Tasks); err != nil {
		return o, err
	}
	defaults, err := sweep.DefaultsOf(f.model)
	if err != nil {
		return o, err
	}
	if !f.given("groups") {
		o.Groups = sweep.Groups(defaults.Arch.KVHeads)
	}
	if !f.given("context") {
		o.Context = eval.Fit(defaults.Arch, o.Context+1) - 1
	}
	if o.Recipe, err = f.sweepRecipe(defaults.Arch); err != nil {
		return o, err
	}
	o.OriginalTokens = o.Recipe.OriginalTokens
	o.Curves, o.Notes, err = f.curves(defaults, o.Recipe.Steps > 0)
	for _, method := range []convert.Method{convert.Calibrated, convert.MethodLatent} {
		if o.Calibration == "" && slices.ContainsFunc(o.Curves, func(c sweep.Curve) bool { return c.Method == method }) {
			o.Notes = append(o.Notes, fmt.Sprintf("there is no text to run the model on: method %s goes by the weights alone; give --calibration", method))
		}
	}
	return o, err
}

// noTasks is the name that stands for no tasks.
const noTasks = "none"

// withData returns the options with a model, its corpora and tasks.
func (f sweepFlags) withData() sweep.Options {
	o := f.o
	o.Model, o.Data, o.Valid, o.Groups = f.model, f.data, f.valid, f.groups
	if f.model == "" {
		o.Data, o.Valid = cmp.Or(f.data, data.SamplePrefix+"train"), cmp.Or(f.valid, data.SamplePrefix+"val")
	}
	switch {
	case slices.Equal(o.Tasks.Names, []string{noTasks}):
		o.Tasks.Names = nil
	case f.model == "" && len(o.Tasks.Names) == 0:
		o.Tasks.Names = []string{tasks.Sample}
	}
	o.Calibration = cmp.Or(o.Calibration, o.Data)
	return o
}

// curves returns the curves that the flag names, or the default ones, with a note about these.
func (f sweepFlags) curves(d sweep.Defaults, uptrained bool) (curves []sweep.Curve, notes []string, err error) {
	for _, m := range f.methods {
		c, err := sweep.ParseCurve(m)
		if err != nil {
			return nil, nil, cli.Usagef("--methods: %w", err)
		}
		curves = append(curves, c)
	}
	if len(curves) == 0 {
		if curves = d.Curves; d.Lacks != nil {
			notes = append(notes, fmt.Sprintf("curves are %v: %v", curves, d.Lacks))
		}
	}
	if !uptrained {
		for i := range curves {
			curves[i].Loss = ""
		}
	}
	return curves, notes, nil
}

// check returns an error about a flag that is wrong for every model.
func (f sweepFlags) check() error {
	if f.model != "" && (f.valid == "" || f.data == "" && !(f.given("steps") && f.steps == 0)) {
		return cli.Usagef("--model needs --valid, a corpus to evaluate on, and, unless --steps is 0, --data, one to up-train on")
	}
	return cmp.Or(
		some("groups", f.groups, !f.given("groups")), some("methods", f.methods, !f.given("methods")), f.checkAlpha(),
	)
}

// checkAlpha checks the flags that replace a number of steps.
func (f sweepFlags) checkAlpha() error {
	switch {
	case !f.given("alpha"):
		return nil
	case f.given("steps"):
		return cli.Usagef("--steps and --alpha exclude each other")
	case f.alpha == 0:
		return cli.Usagef("--alpha is %v, want a share of the original tokens above 0, such as 0.05", f.alpha)
	}
	return nil
}

// some checks a list from a flag: it must not be empty, unless that is allowed, and must not have duplicates.
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

// sweepRecipe returns the recipe of all up-trainings, changed by the flags.
func (f sweepFlags) sweepRecipe(arch *configs.Arch) (recipe.Recipe, error) {
	r, err := recipe.Load(f.recipe)
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
	if f.given("device") || r.Device == "" {
		r.Device = f.device
	}
	r.TextKey = cmp.Or(f.textKey, r.TextKey)
	r.OriginalTokens = cmp.Or(f.o.OriginalTokens, r.OriginalTokens)
	if f.model == "" {
		r.OriginalTokens = cmp.Or(r.OriginalTokens, sweep.SampleTokens())
	}
	return f.length(r)
}

// length resolves a recipe with the number of steps from the flags.
func (f sweepFlags) length(r recipe.Recipe) (recipe.Recipe, error) {
	switch {
	case f.given("steps"):
		r.Steps, r.Alpha = f.steps, 0
	case f.given("alpha") && r.OriginalTokens == 0:
		return r, cli.Usagef("--alpha needs --original-tokens: how many tokens the model was pre-trained on")
	case f.given("alpha"):
		r.Steps, r.Alpha = 0, f.alpha
	}
	return resolved(r)
}

// resolved determines the recipe's steps and validates it except for model and data, which differ between up-trainings.
func resolved(r recipe.Recipe) (recipe.Recipe, error) {
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
