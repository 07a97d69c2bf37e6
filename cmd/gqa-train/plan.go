package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/configs/hardware"
	"gqa/configs/recipe"
	"gqa/internal/cli"
	"gqa/internal/estimate"
	"gqa/internal/units"
	"gqa/internal/weights"
	"gqa/train"
)

const planHelp = `Compute how a model is trained on GPUs that need not be there: the windows that each computes at once, what is computed twice, what the
GPUs divide among them, and the memory and the hours that it takes. MODEL is a checkpoint, or a folder with its config.json alone. The recipe is as for
run, except that activations are in bf16 by default. Memory is estimated by the formulas of docs/gpu.md.

Hours are at a measured rate: --rate, in tokens/s of one GPU; --like, a run on one such GPU, whose rate is converted by the operations of both
models; or else the share of --hardware's peak that training reached on an H200 (docs/gpu.md).`

// planFlags holds the values of gqa-train plan's flags.
type planFlags struct {
	config, memory, hardware, like string
	gpus                           int
	rate                           float64
	asJSON                         bool
	sets                           []string
}

func newPlan() *cobra.Command {
	var p planFlags
	cmd := &cobra.Command{
		Use:   "plan MODEL",
		Short: "Compute the memory and the hours that training takes",
		Long:  planHelp,
		Example: `  gqa-train plan my-model-gqa8 --gpus 2 --memory 80GiB --alpha 0.05 --original-tokens 2000000000000
  gqa-train plan my-model-gqa8 --memory 24GiB --train lora
  gqa-train plan my-model-gqa8 --hardware h100 --steps 10000 --rate 12000`,
		Args: cli.Args("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&p.config, "config", "c", "default", "`RECIPE` to use: a .yaml file or the name of an embedded recipe")
	addKeys(fl, &p.sets)
	cli.NumberVar(fl, &p.gpus, "gpus", 1, 1, 4096, "number of GPUs")
	fl.StringVar(&p.memory, "memory", "", "memory of each GPU, such as 80GiB (default: the hardware's)")
	fl.StringVar(&p.hardware, "hardware", "h200", "`NAME` of the GPU ("+strings.Join(hardware.Names(), ", ")+") or a file that describes it")
	fl.Float64Var(&p.rate, "rate", 0, "measured speed of one GPU, in `TOKENS` per second")
	fl.StringVar(&p.like, "like", "", "run `DIR` on one such GPU, whose speed was measured")
	fl.BoolVar(&p.asJSON, "json", false, "print the plan as JSON")
	return cmd
}

// plan is what is printed.
type plan struct {
	Model      string          `json:"model"`
	Parameters int64           `json:"parameters"`
	Trained    int64           `json:"trained_parameters"`
	GPUs       int             `json:"gpus"`
	Room       int64           `json:"memory"` // of each GPU, in bytes
	Precision  string          `json:"precision"`
	Windows    int             `json:"micro_batch"` // windows that a GPU computes at once
	Times      int             `json:"accumulate"`  // how often it does so in a step
	Recompute  string          `json:"recompute"`
	Sharding   string          `json:"sharding"`
	Needed     estimate.Memory `json:"needed"`
	Fits       bool            `json:"fits"`
	Tokens     float64         `json:"tokens"`
	TokensPerS float64         `json:"tokens_per_s"` // of all GPUs
	Hours      float64         `json:"hours"`
	Rate       string          `json:"rate"` // where the speed comes from
	Less       []string        `json:"less,omitempty"`
}

func (f *planFlags) run(cmd *cobra.Command, model string) error {
	arch, exact, err := archOf(model)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	r, err := f.recipe(model)
	if err != nil {
		return cli.UsageError{Err: err}
	}
	if err := r.CheckProcesses(f.gpus); err != nil {
		return cli.UsageError{Err: err}
	}
	gpu, err := hardware.Load(f.hardware)
	if err != nil {
		return err
	}
	room := int64(gpu.MemoryMiB * (1 << 20))
	if f.memory != "" {
		var ok bool
		if room, ok = units.ParseBytes(f.memory); !ok {
			return cli.Usagef("--memory is %q, want a size such as 80GiB", cli.Shorten(f.memory))
		}
	}
	base := estimate.Setting{BF16: r.Precision == "bf16", OwnMemory: true, Exact: exact, GPUs: f.gpus}
	base.Logits = int(room / 256 / 4)
	if base.BF16 {
		base.Logits *= 2
	}
	chosen, err := estimate.Choose(arch, &r, base, float64(room))
	if err != nil {
		return err
	}
	p := plan{
		Model: model, GPUs: f.gpus, Room: room, Precision: r.Precision, Windows: chosen.Windows, Recompute: chosen.Recompute, Sharding: string(chosen.Sharding),
		Needed: chosen.Memory, Fits: chosen.Fits, Tokens: float64(r.Steps) * float64(r.TokensPerStep()),
	}
	p.Times = (r.Batch*r.Accumulate + f.gpus*p.Windows - 1) / (f.gpus * p.Windows)
	if p.Parameters, p.Trained, err = parameters(arch, &r); err != nil {
		return err
	}
	if err := f.speed(&p, arch, &r, gpu); err != nil {
		return err
	}
	if !p.Fits {
		p.Less = needsLess(&r)
	}
	if f.asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), p)
	}
	return p.print(cmd.OutOrStdout(), &r)
}

// archOf returns a model's architecture, and whether its weights are in bfloat16.
func archOf(path string) (arch *configs.Arch, exact bool, err error) {
	src, err := weights.Open(path, weights.Options{})
	if err == nil {
		defer src.Close()
		params, err := src.Arch.Params()
		if err != nil {
			return nil, false, err
		}
		t, ok := src.Tensor(params[0].Tensor)
		return src.Arch, ok && t.DType == checkpoints.BF16, nil
	}
	config, errConfig := os.ReadFile(filepath.Join(path, "config.json"))
	if errConfig != nil || hasWeights(path) {
		return nil, false, err
	}
	arch, err = configs.Resolve(config, "")
	return arch, strings.Contains(string(config), "bfloat16"), err
}

// hasWeights reports whether a folder has files of weights.
func hasWeights(dir string) bool {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	for _, e := range entries {
		if e.Name() != "config.json" && weights.IsWeightFile(e.Name()) {
			return true
		}
	}
	return false
}

// recipe returns the recipe of the flags. Without a number of steps it is that of a billion tokens.
func (f *planFlags) recipe(model string) (recipe.Recipe, error) {
	r, err := recipe.Load(f.config)
	if err != nil {
		return r, err
	}
	r.Precision = "bf16"
	for _, set := range f.sets {
		if err := r.Set(set); err != nil {
			return r, err
		}
	}
	r.Model = model
	if r.Data == "" {
		r.Data = "sample:train" // of which nothing is read
	}
	if r.Steps == 0 && r.Alpha == 0 {
		r.Steps = int(math.Ceil(1e9 / float64(max(1, r.TokensPerStep()))))
	}
	return r, r.Resolve()
}

func parameters(arch *configs.Arch, r *recipe.Recipe) (all, trained int64, err error) {
	params, err := arch.Params()
	for _, p := range params {
		n := int64(p.Size())
		all += n
		switch {
		case !r.Trains(p):
		case r.Train == recipe.TrainLoRA:
			trained += int64(r.LoRA.Rank * (p.Shape[0] + p.Shape[1]))
		default:
			trained += n
		}
	}
	return all, trained, err
}

// What training reached of an H200's peak in bf16, without recomputation and with it, and of twice one GPU's speed on two (docs/gpu.md,
// docs/scaling.md).
const (
	reached          = 0.54
	reachedRecompute = 0.48
	scaled           = 0.94
)

// speed adds the speed and the hours.
func (f *planFlags) speed(p *plan, arch *configs.Arch, r *recipe.Recipe, gpu hardware.Hardware) error {
	flops, err := estimate.FLOPs(arch, r.SeqLen)
	if err != nil {
		return err
	}
	rate := f.rate
	switch {
	case f.rate > 0:
		p.Rate = "as given by --rate"
	case f.like != "":
		if rate, err = rateLike(f.like, flops); err != nil {
			return err
		}
		p.Rate = "that of " + f.like + ", by the operations of both models"
	default:
		share := reached
		if p.Recompute == "layer" {
			share = reachedRecompute
		}
		peak := gpu.FLOPs[p.Precision]
		if p.Precision == "f32" {
			peak = gpu.FLOPs["f32"]
		}
		if peak == 0 {
			return fmt.Errorf("%s: has no figure for %s: give --rate or --like", gpu.Name, p.Precision)
		}
		rate = share * peak / flops
		p.Rate = fmt.Sprintf("%.0f%% of the peak of %s, as measured on an h200", 100*share, gpu.Name)
	}
	p.TokensPerS = rate
	if f.gpus > 1 {
		p.TokensPerS = rate * float64(f.gpus) * scaled
	}
	p.Hours = p.Tokens / p.TokensPerS / 3600
	return nil
}

// rateLike returns the tokens per second of a model with so many operations for each token, at the speed of a run.
func rateLike(run string, flops float64) (float64, error) {
	s, err := train.ReadStatus(run)
	if err != nil {
		return 0, err
	}
	r, err := recipe.Load(filepath.Join(run, "recipe.yaml"))
	if err != nil {
		return 0, err
	}
	model := s.Model
	if model == "" {
		model = r.Model
	}
	arch, _, err := archOf(model)
	if err != nil {
		return 0, fmt.Errorf("--like: %w", err)
	}
	its, err := estimate.FLOPs(arch, r.SeqLen)
	if err == nil && s.TokensPerS == 0 {
		err = fmt.Errorf("--like: %s has made no step yet", run)
	}
	return s.TokensPerS * its / flops, err
}

// needsLess says what takes less memory.
func needsLess(r *recipe.Recipe) (ways []string) {
	if r.Precision != "bf16" {
		ways = append(ways, "--precision bf16")
	}
	if r.Optimizer.Name != recipe.Adafactor {
		ways = append(ways, "--optimizer adafactor")
		if r.Optimizer.Name == recipe.AdamW && r.Optimizer.Moments != recipe.Moments8 {
			ways = append(ways, "--moments 8bit")
		}
	}
	if r.Train != recipe.TrainLoRA {
		ways = append(ways, "--train lora")
	}
	return append(ways, "more GPUs", "a smaller --seq-len")
}

func (p plan) print(out io.Writer, r *recipe.Recipe) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", values...) }
	size := func(x float64) string { return units.Bytes(int64(x)) }
	row("model", "%s, %s parameters, of which %s are trained", p.Model, units.Count(p.Parameters), units.Count(p.Trained))
	row("GPUs", "%d of %s", p.GPUs, size(float64(p.Room)))
	row("precision", "%s", p.Precision)
	row("optimizer", "%s", r.Optimizer.Name)
	row("micro-batch", "%d windows of %d tokens on each GPU, %d times a step", p.Windows, r.SeqLen, p.Times)
	row("recompute", "%s", p.Recompute)
	row("sharding", "%s", p.Sharding)
	row("memory", "%s on each GPU: weights %s, optimizer %s, gradients %s, activations %s, other %s", size(p.Needed.All()), size(p.Needed.Weights),
		size(p.Needed.State), size(p.Needed.Gradients), size(p.Needed.Activations), size(p.Needed.Teacher+p.Needed.Work))
	if p.Needed.Teacher > 0 {
		row("teacher", "%s of this, all of it on each GPU", size(p.Needed.Teacher))
	}
	if p.Fits {
		row("fits", "yes")
	} else {
		row("fits", "no: less is needed with %s", strings.Join(p.Less, ", "))
	}
	row("tokens", "%s, in %d steps of %s", quantity(p.Tokens), r.Steps, quantity(float64(r.TokensPerStep())))
	row("tokens/s", "%s, %s", quantity(p.TokensPerS), p.Rate)
	row("hours", "%s", units.Significant(p.Hours))
	return w.Flush()
}
