package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/limits"
)

func gate(cmd *cobra.Command, dir, baseline string, limits report.Limits) error {
	r, err := readReport(dir)
	if err != nil {
		return err
	}
	base, err := readReport(baseline)
	if err != nil {
		return err
	}
	err = report.Gate(r, base, limits)
	var failed *report.GateError
	if errors.As(err, &failed) {
		for _, line := range failed.Failures {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
	}
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "passed: all %d points of the baseline\n", len(base.Points))
	}
	return err
}

func readReport(path string) (report.Report, error) {
	r, err := report.Read(path)
	if errors.Is(err, report.ErrNotFound) {
		err = advice.Add(err, "gqa-eval sweep writes one")
	}
	return r, err
}

// writeOutput renders to standard output or, whole or not at all, to a file.
func writeOutput(cmd *cobra.Command, path string, render func(w io.Writer) error) error {
	if path == "" {
		return render(cmd.OutOrStdout())
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || !dir.IsDir() {
		return fmt.Errorf("there is no folder %s to write %s into", filepath.Dir(path), filepath.Base(path))
	}
	var buf bytes.Buffer
	if err := render(&buf); err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(path, buf.Bytes(), os.FileMode(0o666))
}

func newQuality() *cobra.Command {
	var data, teacher string
	var o eval.QualityOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quality MODEL --data FILE",
		Short: "Measure how well a model predicts a corpus",
		Long: `Measure how well a model predicts a corpus: loss, perplexity, bits per byte and token accuracy. With --teacher, also
measure KL divergence and top-1 agreement. Windows of --seq-len tokens do not overlap; the first token of each is not predicted.

An encoder (BERT) predicts 15% of the tokens of each window, which are replaced by [MASK]. An encoder-decoder (T5) predicts
spans that are replaced by <extra_id_0>, <extra_id_1>, …, again 15% of the tokens. --seed chooses them. If a .safetensors file
has labels beside its input_ids, these are predicted instead: labels of -100 are ignored, and T5's decoder reads them shifted
right.`,
		Args: cli.Args("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if data == "" {
				return cli.Usagef("--data is missing: a .txt, .jsonl or source file, a folder of them, or a .safetensors file with input_ids")
			}
			q, err := quality(cmd, args[0], teacher, data, o)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, q)
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "text to predict (.txt, .jsonl, .json, source code, a folder), .safetensors with input_ids, or sample:val")
	f.StringVar(&o.TextKey, "text-key", "", "`KEY` of the text in JSON records (default text)")
	f.StringVar(&teacher, "teacher", "", "teacher checkpoint to compare predictions with")
	cli.NumberVar(f, &o.SeqLen, "seq-len", 0, 0, limits.Tokens, "tokens per window (default: the model's context, at most 2048)")
	cli.NumberVar(f, &o.MaxWindows, "max-windows", 0, 0, limits.Count, "maximum number of windows, from the start (0: all)")
	f.Uint64Var(&o.Seed, "seed", 0, "random seed of the masked tokens of an encoder")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}

func quality(cmd *cobra.Command, path, teacher, corpus string, o eval.QualityOptions) (*eval.Quality, error) {
	if o.SeqLen == 1 {
		return nil, cli.Usagef("--seq-len is %d, want 2 or more, or 0, the default", o.SeqLen)
	}
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{})
	if err != nil {
		return nil, err
	}
	if teacher != "" {
		if o.Teacher, err = eval.LoadModel(cmd.Context(), teacher, eval.ModelOptions{}); err != nil {
			return nil, fmt.Errorf("teacher: %w", err)
		}
	}
	d, err := eval.LoadCorpus(cmd.Context(), corpus, m, o)
	if err != nil {
		return nil, err
	}
	bar := cli.CommandProgress(cmd, o.Windows(d), "windows", false)
	defer bar.Done()
	o.Progress = bar.Add
	q, err := eval.MeasureQuality(cmd.Context(), m, d, o)
	if errors.As(err, new(eval.WindowError)) {
		err = fmt.Errorf("--seq-len: %w", err)
	}
	return q, err
}

func newLatency() *cobra.Command {
	var shape, dtype, kvDType string
	var groups int
	var asJSON bool
	o := eval.LatencyOptions{}
	cmd := &cobra.Command{
		Use:   "latency [MODEL]",
		Short: "Time a model's prefill and decode",
		Long: `Time prefill and decode on this machine, for a model or, with --shape, for a Llama with random weights and a published
model's size. For decode, the cache is filled with random values, so long contexts need no prefill. The default --context and
--prompt-len are reduced if the model has fewer positions.`,
		Args: cli.Args("[MODEL]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := latencyModel(cmd, eval.ModelOptions{Weights: dtypes[dtype], Cache: dtypes[kvDType]}, args, shape, groups)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("context") {
				o.Context = eval.Fit(m.Arch, o.Context+1) - 1
			}
			if !cmd.Flags().Changed("prompt-len") {
				o.PromptLen = eval.Fit(m.Arch, o.PromptLen)
			}
			l, err := eval.MeasureLatency(cmd.Context(), m, eval.MeasureMachine(cmd.Context()), o)
			if errors.Is(err, eval.ErrDecode) {
				return advice.Add(err, "give --prompt-len to time a pass over a prompt")
			}
			if err != nil {
				return err
			}
			return show(cmd, asJSON, l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&shape, "shape", "", "name of a published shape; gqa-eval kv lists them")
	cli.NumberVar(f, &groups, "groups", 0, 0, limits.Heads, "number of KV heads of the --shape (0: the shape's own)")
	cli.NumberVar(f, &o.Batch, "batch", 1, 1, limits.Batch, "batch size")
	cli.NumberVar(f, &o.Context, "context", 512, 1, limits.Tokens, "context length: tokens in the cache")
	cli.NumberVar(f, &o.PromptLen, "prompt-len", 128, 0, limits.Tokens, "tokens per sequence for the prefill measurement (0: none)")
	cli.EnumVar(f, &dtype, "dtype", "f32", "data type of the weights in memory", "f32", "bf16", "f16")
	cli.EnumVar(f, &kvDType, "kv-dtype", "f32", "data type of the KV cache", "f32", "bf16", "f16")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}

// dtypes are the values of --dtype and --kv-dtype.
var dtypes = map[string]checkpoints.DType{"f32": checkpoints.F32, "bf16": checkpoints.BF16, "f16": checkpoints.F16}

func latencyModel(cmd *cobra.Command, o eval.ModelOptions, args []string, shape string, groups int) (*eval.Model, error) {
	switch {
	case shape != "" && len(args) == 0:
		s, err := eval.ShapeByName(shape)
		if err != nil {
			return nil, cli.Usagef("--shape: %w", err)
		}
		if groups != 0 && !slices.Contains(s.Groups(), groups) {
			return nil, cli.Usagef("--groups is %d, want one of %v for %s's %d heads", groups, s.Groups(), s.Name, s.Heads)
		}
		return eval.RandomModel(cmd.Context(), s, groups, o)
	case shape == "" && len(args) == 1:
		if groups != 0 {
			return nil, cli.Usagef("--groups goes with --shape; convert a model with gqa-convert --groups %d", groups)
		}
		return eval.LoadModel(cmd.Context(), args[0], o)
	}
	return nil, cli.Usagef("give either MODEL or --shape")
}

func newLogits() *cobra.Command {
	var input, output string
	var stepwise bool
	cmd := &cobra.Command{
		Use:   "logits MODEL --input ids.safetensors --out logits.safetensors",
		Short: "Write a model's logits, for parity checks against another implementation",
		Args:  cli.Args("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if input == "" || output == "" {
				return cli.Usagef("--input (a .safetensors file with input_ids [sequences, tokens]) and --out must be given")
			}
			m, err := eval.LoadModel(cmd.Context(), args[0], eval.ModelOptions{})
			if err != nil {
				return err
			}
			return eval.WriteLogits(cmd.Context(), m, input, output, stepwise)
		},
	}
	f := cmd.Flags()
	f.StringVar(&input, "input", "", ".safetensors file with input_ids [sequences, tokens]")
	f.StringVarP(&output, "out", "o", "", ".safetensors file to write logits [sequences, tokens, vocabulary] to, f32")
	f.BoolVar(&stepwise, "stepwise", false, "send every token through the KV cache on its own")
	return cmd
}
