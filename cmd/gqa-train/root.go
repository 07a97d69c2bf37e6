package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/configs/recipe"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/train"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gqa-train",
		Short: "Up-train a checkpoint for a small fraction of its original steps",
		Long: `Up-train a checkpoint, usually one that gqa-convert wrote, to recover the quality that the conversion cost.

A run is a folder with recipe.yaml, metrics.jsonl, TensorBoard events and checkpoints/step-N/. At the end it also holds
model/, a Hugging Face folder. On one machine and device, the same recipe gives bit-identical losses, even if the run was
resumed. A build that uses NVIDIA GPUs trains on the first one by default; gqa-train doctor checks what it needs.
Ctrl-C finishes the current step, saves it and exits with status 1.`,
		Example: `  gqa-train run --model my-model-gqa8 --data corpus.jsonl --steps 1000 --name first
  gqa-train run --config recipe.yaml --set optimizer.lr=1e-4
  gqa-train resume
  gqa-train status runs/first
  gqa-train plan my-model-gqa8 --gpus 2 --memory 80GiB
  gqa-train doctor`,
	}
	root.AddCommand(newRun(), newResume(), newStatus(), newManifest(), newPlan(), newDoctor())
	advice.Wrap(root)
	return root
}

func newRun() *cobra.Command {
	var config string
	var sets []string
	var o train.Options
	var printJSON bool
	var served string
	var gpus gpus
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start an up-training run",
		Long: `Start an up-training run. --config is a recipe file or the name of an embedded recipe: ` +
			strings.Join(recipe.Names(), ", ") + `.
Flags and --set override keys of the recipe; if a key is set twice, the last one wins. Data is text (.txt with <|endoftext|> between documents; .jsonl,
.json, .csv or .parquet with "text", --text-key or conversations; source code; any of these but .parquet as .gz or .zst; a folder or a glob of them; org/name
in the hub's cache), a .safetensors file with input_ids [rows, tokens], or sample:train. A recipe can name several corpora with weights
(docs/formats.md). If the folder already contains an unfinished run with the same settings, it is resumed.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := first(); err != nil {
				return cli.UsageError{Err: err}
			}
			recipe, err := loadRecipe(config, append(sets, threads(cmd)...))
			if err != nil {
				return cli.UsageError{Err: err}
			}
			if started, err := gpus.start(cmd); started {
				return err
			}
			warnUnused(cmd.Flags(), recipe)
			for _, doubt := range train.Doubts(recipe) {
				slog.Warn(doubt)
			}
			if o.Dir == "" {
				if err := advice.OutsideHub(); err != nil {
					return err
				}
			}
			return follow(cmd, printJSON, served, o, func(o train.Options) (*train.Status, error) {
				s, err := train.Run(cmd.Context(), recipe, o)
				return s, usage(withCommand(err, recipe.Model))
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&config, "config", "c", "default", "`RECIPE` to use: a .yaml file or the name of an embedded recipe")
	addKeys(fl, &sets)
	addDevice(fl, &sets)
	addPrometheus(fl, &served)
	gpus.add(fl)
	fl.StringVarP(&o.Dir, "output", "o", "", "folder of the run, `DIR` (default runs/NAME)")
	fl.BoolVar(&o.Force, "force", false, "replace an existing run; other files in its folder are kept")
	fl.BoolVar(&printJSON, "json", false, "print the final status as JSON")
	return cmd
}

func newResume() *cobra.Command {
	var sets []string
	var printJSON bool
	var served string
	var gpus gpus
	cmd := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Resume a run from its latest checkpoint",
		Long: `Resume a run from its latest checkpoint. RUN is its folder or its name under runs/ (default: the most recent run under
runs/). --set changes the recipe for the remaining steps: for example a lower optimizer.lr after the run diverged, more steps
after it finished, or new paths if files were moved.`,
		Args: cli.Args("[RUN]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := first(); err != nil {
				return cli.UsageError{Err: err}
			}
			dir, err := runOf(args)
			if err != nil {
				return err
			}
			if started, err := gpus.start(cmd); started {
				return err
			}
			slog.Info("resuming", "run", dir)
			return follow(cmd, printJSON, served, train.Options{Dir: dir}, func(o train.Options) (*train.Status, error) {
				s, err := train.Resume(cmd.Context(), o, append(sets, threads(cmd)...))
				return s, usage(err)
			})
		},
	}
	addSet(cmd.Flags(), &sets)
	addDevice(cmd.Flags(), &sets)
	addPrometheus(cmd.Flags(), &served)
	gpus.add(cmd.Flags())
	cmd.Flags().BoolVar(&printJSON, "json", false, "print the final status as JSON")
	return cmd
}

func newStatus() *cobra.Command {
	var printJSON bool
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Show a run's progress",
		Long: `Show a run's progress, its last validation and tasks, and the curve of its loss. RUN is its folder or its name under runs/ (default:
the most recent run under runs/).`,
		Args: cli.Args("[RUN]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := runOf(args)
			if err != nil {
				return err
			}
			s, err := train.ReadStatus(dir)
			if err != nil {
				return err
			}
			if err := printStatus(cmd, s, printJSON); err != nil || printJSON {
				return err
			}
			metrics, err := train.ReadMetrics(dir)
			if drawn := curve(metrics); drawn != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s", drawn)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&printJSON, "json", false, "print the status as JSON")
	return cmd
}

// runOf returns the run that was named, by its folder or by its name under runs/, or the newest.
func runOf(args []string) (string, error) {
	const runs = "runs"
	if len(args) == 0 {
		return train.Newest(runs)
	}
	named := filepath.Join(runs, args[0])
	switch info, err := os.Stat(args[0]); {
	case train.IsRun(args[0]):
		return args[0], nil
	case train.IsRun(named):
		return named, nil
	case err == nil && info.IsDir():
		return args[0], nil // the error comes from where it is read
	case err == nil:
		return "", fmt.Errorf("%s: is not a run: it is not a folder", args[0])
	}
	return "", fmt.Errorf("%s: is not a run: it has no recipe.yaml%s", cli.Shorten(args[0]), others(runs, args[0]))
}

// others names, for an error, the runs that word may be meant to be, or otherwise the existing runs; empty if there are
// none.
func others(runs, word string) string {
	const most = 5
	var names []string
	entries, _ := os.ReadDir(runs) // if it does not exist, there are no runs
	for _, e := range entries {
		if train.IsRun(filepath.Join(runs, e.Name())) {
			names = append(names, e.Name())
		}
	}
	if near := cli.Nearest(word, names); len(near) > 0 {
		return "; did you mean " + strings.Join(near[:min(len(near), most)], ", ") + "?"
	}
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		return fmt.Sprintf("; under %s are %s, … (%d runs)", runs, strings.Join(names[:most], ", "), len(names))
	}
	return fmt.Sprintf("; under %s: %s", runs, strings.Join(names, ", "))
}

// usage turns an error about a recipe into a usage error.
func usage(err error) error {
	var wrong recipe.Error
	if errors.As(err, &wrong) {
		return cli.UsageError{Err: err}
	}
	return err
}

func loadRecipe(config string, sets []string) (recipe.Recipe, error) {
	recipe, err := recipe.Load(config)
	if err != nil {
		return recipe, err
	}
	for _, set := range sets {
		if err := recipe.Set(set); err != nil {
			return recipe, err
		}
	}
	return recipe, recipe.Resolve()
}

// warnUnused logs which flags have no effect.
func warnUnused(fl *pflag.FlagSet, r recipe.Recipe) {
	warn := func(why string, names ...string) {
		for _, name := range names {
			if fl.Changed(name) {
				slog.Warn("--" + name + " has no effect: " + why)
			}
		}
	}
	if r.Train != recipe.TrainLoRA {
		warn("it is for --train lora", "lora-rank", "lora-alpha", "lora-projections")
	}
	switch r.Distill.Loss {
	case recipe.CE:
		warn("the loss does not use the teacher", "teacher", "kl-weight", "temperature", "teacher-cache", "teacher-top-k")
	case recipe.KL:
		warn("it is the weight of the KL term in --loss mixed", "kl-weight")
	}
}

// threads returns the shared flag --threads as a setting of the recipe.
func threads(cmd *cobra.Command) []string {
	if f := cmd.Flag("threads"); f != nil && f.Changed {
		if n, err := strconv.Atoi(f.Value.String()); err == nil {
			return []string{"threads=" + strconv.Itoa(n)}
		}
	}
	return nil
}
