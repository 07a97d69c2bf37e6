package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/devices"
	"gqa/internal/hub"
	"gqa/internal/limits"
	"gqa/internal/weights"
)

// flags holds the values of gqa-convert's flags.
type flags struct {
	groups                   int
	byLayer                  []int
	latent                   convert.LatentGoal
	output                   string
	method, grouping         string
	target, sites, dtype     string
	shardSize                string
	seed                     uint64
	calibration              string
	calibrationTokens        int
	textKey, device          string
	refine                   int
	refineBy                 string
	force, dryRun, printJSON bool
	source                   convert.SourceOptions
}

func newRoot() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "gqa-convert --groups G INPUT",
		Short: "Convert a multi-head-attention checkpoint to grouped-query attention",
		Long: `Convert a multi-head-attention checkpoint to grouped-query (--groups G) or multi-query (--groups 1) attention. The K/V
projection heads of each group are merged into one (Ainslie et al. 2023, arXiv 2305.13245).

INPUT is a Hugging Face model folder, an index file of shards, or a weight file with config.json beside it: .safetensors,
or PyTorch (.bin, .pt, .pth; code in pickles is never run). The result is a folder with the weights, config.json, the
tokenizer files and conversion.json.`,
		Example: `  gqa-convert --groups 8 in.safetensors
  gqa-convert --groups 1 --dtype bf16 -o mqa/ my-model/
  gqa-convert inspect my-model/
  gqa-convert verify my-model-gqa8/`,
		Args: cli.Args("INPUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			input, err := hub.Find(hub.Model, args[0])
			if err != nil {
				return err
			}
			return runConvert(cmd, f, input)
		},
	}
	fl := cmd.Flags()
	cli.NumberVarP(fl, &f.groups, "groups", "g", 0, 1, limits.Heads, "number of KV heads in the result; must divide the source's (1: multi-query attention)")
	fl.IntSliceVar(&f.byLayer, "groups-per-layer", nil, "number of KV heads per layer, such as 8,8,4,2, instead of --groups; only this toolkit loads the result and, with --target gguf, llama.cpp for llama and mistral")
	cli.NumberVar(fl, &f.latent.Rank, "kv-rank", 0, 1, limits.Heads, "with --target mla: width of the latent that all keys and values come from")
	cli.NumberVar(fl, &f.latent.RopeDim, "rope-dim", 0, 2, limits.Heads, "with --target mla: width of the rotary key that all heads share; even. A cache holds both for each token and layer")
	fl.Int64Var(&f.latent.Bytes, "kv-bytes-per-token", 0, "with --target mla and deepseek_v3, in place of --kv-rank: bytes of a token's cache over all layers, at two bytes a number; without --rope-dim, a quarter of the numbers is rotary. With --target mla and --calibration, each layer gets the width that it needs")
	cli.NumberVar(fl, &f.latent.QueryRank, "query-rank", 0, 0, limits.Heads, "with --target mla: width of a latent that queries come from, which saves parameters but no cache (0: none)")
	fl.BoolVar(&f.latent.Bias, "latent-bias", false, "with --target deepseek_v3: give the latent a bias that makes its norm nearly constant, which keeps much more; transformers loads it, vLLM does not")
	fl.StringVarP(&f.output, "output", "o", "", "folder to write (default: INPUT-gqaG beside the input, or in the current folder if the input is in the Hugging Face cache)")
	cli.EnumVar(fl, &f.method, "method", string(convert.Mean), "how the heads of a group are merged", convert.Methods...)
	cli.EnumVar(fl, &f.grouping, "grouping", string(convert.Contiguous), "which heads form a group, where contiguous takes neighbouring heads and similar finds the groups that lose least", convert.Groupings...)
	cli.EnumVar(fl, &f.target, "target", string(convert.Native), "what to write, where native is for a transformers class that supports fewer KV heads, if there is one; own is the family's own tensor layout; expanded repeats the merged heads, so that the result loads anywhere but saves no cache; gguf is for llama.cpp; mla is multi-head latent attention (with --kv-rank and --rope-dim in place of --groups), which only this toolkit loads; deepseek_v3 is the same for transformers' DeepseekV3ForCausalLM, which has fewer freedoms", convert.Targets...)
	sitesFlag(fl, &f)
	cli.EnumVar(fl, &f.dtype, "dtype", "keep", "data type of the float tensors in the result", "keep", "f32", "bf16", "f16")
	fl.StringVar(&f.shardSize, "shard-size", "", "maximum size of each .safetensors file, such as 5GB or 900MiB (default: as in the source)")
	fl.StringVar(&f.calibration, "calibration", "", "calibration text for --method align or calibrated, --grouping similar and --refine: any format that gqa-train run --data reads, or sample:train (default: none, so only the weights are used; for the sample model: sample:train)")
	cli.NumberVar(fl, &f.calibrationTokens, "calibration-tokens", 262144, 1, limits.Count, "number of calibration tokens")
	fl.StringVar(&f.textKey, "text-key", "", "`KEY` of the text in JSON records of --calibration (default text)")
	cli.CheckedVar(fl, &f.device, "device", devices.Auto, "what runs the model on the calibration text: "+devices.Choices, devices.Check)
	cli.NumberVar(fl, &f.refine, "refine", 0, 0, limits.Count, "fit the attention to that of the original model on the calibration text, in this many steps (for example 600; 0: do not)")
	cli.EnumVar(fl, &f.refineBy, "refine-by", string(convert.BySize), "what --refine fits at once, where layer needs little memory, model keeps both models in memory, and size chooses model if the weights take at most 1 GB in f32, otherwise layer", convert.RefineChoices...)
	fl.Uint64Var(&f.seed, "seed", 0, "random seed for --method random, for calibration windows and for --grouping similar")
	fl.BoolVar(&f.force, "force", false, "replace an existing conversion; other files in its folder are kept")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check everything and print what would be written, but write nothing")
	sourceFlags(cmd, &f)
	cmd.AddCommand(newInspect(), newVerify())
	advice.Wrap(cmd)
	return cmd
}

func sitesFlag(fl *pflag.FlagSet, f *flags) {
	cli.EnumVar(fl, &f.sites, "sites", string(convert.DefaultSites),
		"which attention to convert, where default is all except the encoder of an encoder-decoder model, as in the paper", convert.SiteChoices...)
}

// sourceFlags adds the flags that are common to commands that read a checkpoint.
func sourceFlags(cmd *cobra.Command, f *flags) {
	fl := cmd.Flags()
	fl.StringVar(&f.source.Family, "family", "", "model family, if config.json does not give it: one of "+strings.Join(familyNames(), ", "))
	cli.NumberVar(fl, &f.source.Heads, "heads", 0, 1, limits.Heads, "number of query heads, if there is no config.json")
	fl.BoolVar(&f.printJSON, "json", false, "print the results as JSON")
}

func familyNames() []string {
	families, _ := configs.Families() // an error is reported when a checkpoint is opened
	return slices.Sorted(maps.Keys(families))
}

func open(cmd *cobra.Command, input string, o convert.SourceOptions) (*convert.Source, error) {
	if cmd.Flags().Changed("family") {
		if err := configs.CheckFamily(o.Family); err != nil {
			return nil, cli.Usagef("--family is %w", err)
		}
	}
	src, err := convert.Open(input, o)
	if err != nil {
		return nil, advise(err)
	}
	return src, nil
}

// prepare reads what a merge needs for its plan.
func (f flags) prepare(cmd *cobra.Command, src *convert.Source, o *convert.Options) (err error) {
	if o.Merges() {
		if err := checkFinite(cmd, src); err != nil {
			return err
		}
	}
	o.Calibration, err = f.loadCalibration(cmd, src)
	return err
}

// checkFinite reads all weights once before the conversion starts: those used in a computation must be finite.
func checkFinite(cmd *cobra.Command, src *convert.Source) error {
	bar := cli.CommandProgress(cmd, src.OwnBytes(), "checking weights", true)
	defer bar.Done()
	return src.CheckFinite(cmd.Context(), bar.Add)
}

// warn logs what was assumed about src, once it is known to be usable.
func warn(src *convert.Source) {
	family := src.Arch.Family.Name
	if src.Inferred {
		slog.Warn("no config.json: sizes are taken from the tensors, everything else (norm epsilon, rope theta) is the class's default; check it",
			"family", family)
	}
	if unknown := src.Arch.Unknown; len(unknown) > 0 {
		slog.Warn("config.json has keys that family "+family+" does not know; they are kept and not interpreted", "keys", strings.Join(unknown, ","))
	}
	src.TellNotes()
}

func runConvert(cmd *cobra.Command, f flags, input string) error {
	o, err := f.options(cmd, input)
	if err != nil {
		return err
	}
	src, err := open(cmd, input, f.source)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := f.prepare(cmd, src, &o); err != nil {
		return err
	}
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		return advise(err)
	}
	warn(src)
	warnUnused(cmd, f, plan)
	for _, note := range plan.Notes() {
		slog.Warn(noteText(note))
	}
	if l := plan.Goal.Latent(); l != nil {
		f.latent = *l
	}
	output := f.output
	if output == "" {
		if output, err = f.defaultOutput(input); err != nil {
			return err
		}
	}
	if f.dryRun {
		return advise(dryRun(cmd, f, plan, output))
	}
	return advise(convertTo(cmd, f, plan, output))
}

// warnUnused logs which flags have no effect.
func warnUnused(cmd *cobra.Command, f flags, plan *convert.Plan) {
	if cmd.Flags().Changed("calibration-tokens") && plan.Calibration == nil {
		slog.Warn("--calibration-tokens has no effect: no text is read; name one with --calibration")
	}
	if cmd.Flags().Changed("device") && plan.Calibration == nil {
		slog.Warn("--device has no effect: the model is not run; name a text with --calibration")
	}
	if f.refine > 0 && plan.MergeWork() == 0 {
		slog.Warn("--refine has no effect: every KV head stays as it is")
	}
	if plan.Pooled() == 0 {
		slog.Warn("the checkpoint has that many KV heads already: none are merged, and every tensor is copied", "kv_heads", plan.Goal.String())
	}
}

// goal returns the goal that --groups or --groups-per-layer sets.
func (f flags) goal(cmd *cobra.Command, input string) (convert.Goal, error) {
	given := cmd.Flags().Changed("groups")
	if f.toLatent() {
		return f.latentGoal(cmd)
	}
	for _, flag := range latentFlags {
		if cmd.Flags().Changed(flag) {
			return convert.Goal{}, cli.Usagef("--%s is for --target mla and deepseek_v3", flag)
		}
	}
	switch {
	case given && cmd.Flags().Changed("groups-per-layer"):
		return convert.Goal{}, cli.Usagef("--groups and --groups-per-layer exclude each other")
	case len(f.byLayer) > 0:
		return convert.GroupsPerLayer(f.byLayer...), nil
	case !given:
		return convert.Goal{}, cli.Usagef("--groups is missing: how many KV heads the result should have; gqa-convert inspect %s lists the choices", input)
	}
	return convert.Groups(f.groups), nil
}

// latentFlags are the flags that belong to latent attention.
var latentFlags = []string{"kv-rank", "rope-dim", "kv-bytes-per-token", "query-rank", "latent-bias"}

// toLatent reports whether the target is latent attention.
func (f flags) toLatent() bool {
	return f.target == string(convert.MLA) || f.target == string(convert.DeepSeek)
}

// latentGoal returns the goal that --kv-rank and --rope-dim set.
func (f flags) latentGoal(cmd *cobra.Command) (convert.Goal, error) {
	for _, flag := range []string{"groups", "groups-per-layer", "method", "grouping", "sites"} {
		if cmd.Flags().Changed(flag) {
			return convert.Goal{}, cli.Usagef("--%s is not for --target %s, whose attention has no groups; leave it out", flag, f.target)
		}
	}
	rank, rope, bytes := cmd.Flags().Changed("kv-rank"), cmd.Flags().Changed("rope-dim"), cmd.Flags().Changed("kv-bytes-per-token")
	switch {
	case bytes && rank:
		return convert.Goal{}, cli.Usagef("--kv-rank and --kv-bytes-per-token exclude each other")
	case bytes && f.latent.Bytes < 1:
		return convert.Goal{}, cli.Usagef("--kv-bytes-per-token is %d, want a positive number", f.latent.Bytes)
	case !bytes && (!rank || !rope):
		return convert.Goal{}, cli.Usagef("--target %s needs --kv-rank and --rope-dim: a cache holds that many numbers for each token and layer (512 and 64 in large models); or --kv-bytes-per-token", f.target)
	}
	return convert.LatentAttention(f.latent), nil
}

func (f flags) options(cmd *cobra.Command, input string) (convert.Options, error) {
	goal, err := f.goal(cmd, input)
	if err != nil {
		return convert.Options{}, err
	}
	o := convert.Options{
		Goal: goal, Method: convert.Method(f.method), Grouping: convert.Grouping(f.grouping), Device: f.device,
		Seed: f.seed, Refine: f.refine, RefineBy: convert.RefineBy(f.refineBy), Target: convert.Target(f.target), Sites: convert.Sites(f.sites),
	}
	if goal.Latent() != nil {
		o.Method = convert.MethodLatent
	}
	if f.shardSize != "" && o.Target == convert.GGUF {
		slog.Warn("--shard-size has no effect: a GGUF conversion is a single file", "shard-size", f.shardSize)
	}
	o.DType = map[string]checkpoints.DType{"f32": checkpoints.F32, "bf16": checkpoints.BF16, "f16": checkpoints.F16}[f.dtype]
	if f.shardSize != "" {
		o.ShardSize, err = parseSize(f.shardSize)
	}
	return o, err
}

func dryRun(cmd *cobra.Command, f flags, plan *convert.Plan, output string) error {
	if err := plan.Check(output, f.force); err != nil {
		return err
	}
	s, err := plan.Summary()
	if err != nil {
		return err
	}
	s.Output = output
	weights.TellLeft(plan.Left)
	return show(cmd, f, s, "would write")
}

func convertTo(cmd *cobra.Command, f flags, plan *convert.Plan, output string) error {
	what := "merging heads"
	if plan.Refine > 0 {
		what = "merging and refining heads"
	}
	sites := cli.CommandProgress(cmd, int64(plan.MergeWork()), what, false)
	bytes := sync.OnceValue(func() *cli.Progress {
		sites.Done()
		return cli.CommandProgress(cmd, plan.Work(), "converting", true)
	})
	hashes := sync.OnceValue(func() *cli.Progress {
		bytes().Done()
		return cli.CommandProgress(cmd, plan.Bytes(), "hashing", true)
	})
	s, err := plan.Run(cmd.Context(), output, convert.RunOptions{
		Force: f.force, OnMerge: sites.Add, OnWrite: func(n int64) { bytes().Add(n) }, OnHash: func(n int64) { hashes().Add(n) },
	})
	hashes().Done()
	if err != nil {
		return err
	}
	weights.TellLeft(plan.Left)
	if !f.printJSON {
		suggestMethod(plan)
	}
	return show(cmd, f, s, "wrote")
}

// suggestMethod logs a better method where the mean works badly: rotary positions rotate heads with the same content away
// from each other.
func suggestMethod(plan *convert.Plan) {
	if plan.Method == convert.Mean && plan.Refine == 0 && plan.Goal.Groups() < plan.Source.Arch.KVHeads && plan.Source.Arch.Position == configs.PositionRope {
		slog.Info("the mean loses most of the keys of a model with rotary positions; --method calibrated --grouping similar --calibration TEXT starts much closer to the original " +
			"(the sample at 4 of 8 KV heads loses 0.19 nats, not 2.65; --refine 600 less still), and gqa-train run --teacher INPUT recovers in fewer steps")
	}
}
