package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/limits"
)

// corpusFlags hold what models predict.
type corpusFlags struct {
	corpus string
	o      eval.QualityOptions
}

// add adds the flags. model names the one whose context is the default length of a window.
func (c *corpusFlags) add(f *pflag.FlagSet, model string) {
	f.StringVar(&c.corpus, "data", "", "data to predict: text (.txt, .jsonl, .csv, .parquet, source code, a folder or a glob), .safetensors with input_ids, or sample:val")
	f.StringVar(&c.o.TextKey, "text-key", "", "`KEY` of the text in JSON records (default text)")
	cli.NumberVar(f, &c.o.SeqLen, "seq-len", 0, 0, limits.Tokens, "tokens per window (default: the context of "+model+", at most 2048)")
	cli.NumberVar(f, &c.o.MaxWindows, "max-windows", 0, 0, limits.Count, "maximum number of windows, from the start (0: all)")
	f.Uint64Var(&c.o.Seed, "seed", 0, "random seed for choosing the tokens to predict, for BERT and T5")
}

// check returns an error about a flag that is wrong for every model.
func (c *corpusFlags) check() error {
	switch {
	case c.corpus == "":
		return cli.Usagef("--data is missing: a .txt, .jsonl, .csv, .parquet or source file, a folder or a glob of them, or a .safetensors file with input_ids")
	case c.o.SeqLen == 1:
		return cli.Usagef("--seq-len is %d, want 2 or more, or 0, the default", c.o.SeqLen)
	}
	return nil
}

// windowError names the flag in an error about windows.
func windowError(err error) error {
	if errors.As(err, new(eval.WindowError)) {
		return fmt.Errorf("--seq-len: %w", err)
	}
	return err
}

// qualityFlags holds the values of gqa-eval quality's flags.
type qualityFlags struct {
	corpusFlags
	cacheFlags
	teacher, device string
	asJSON          bool
}

const qualityHelp = `Measure how well a model predicts a corpus: loss, perplexity, bits per byte and token accuracy. With --teacher, also
measure KL divergence and top-1 agreement. Windows of --seq-len tokens do not overlap; the first token of each is not predicted.

An encoder (BERT) predicts 15% of the tokens of each window, which are replaced by [MASK]. An encoder-decoder (T5) predicts
spans that are replaced by <extra_id_0>, <extra_id_1>, …, again 15% of the tokens. --seed chooses them. If a .safetensors file
has labels beside its input_ids, these are predicted instead: labels of -100 are ignored, and T5's decoder reads them shifted
right.

With --kv-dtype or --window, each token attends to the keys and values of the others as a KV cache would keep them: rounded to that
data type, and only the last tokens and the first --sinks. A teacher attends to all, in f32.`

func newQuality() *cobra.Command {
	var q qualityFlags
	cmd := &cobra.Command{
		Use:   "quality MODEL --data FILE",
		Short: "Measure how well a model predicts a corpus",
		Long:  qualityHelp,
		Args:  cli.Args("MODEL"),
		RunE:  func(cmd *cobra.Command, args []string) error { return q.run(cmd, args[0]) },
	}
	q.add(cmd.Flags())
	return cmd
}

func (q *qualityFlags) add(f *pflag.FlagSet) {
	q.corpusFlags.add(f, "MODEL")
	q.cacheFlags.add(f)
	f.StringVar(&q.teacher, "teacher", "", "teacher checkpoint to compare predictions with")
	addDevice(f, &q.device)
	f.BoolVar(&q.asJSON, "json", false, "print the results as JSON")
}

func (q *qualityFlags) run(cmd *cobra.Command, path string) error {
	if err := cmp.Or(q.corpusFlags.check(), q.cacheFlags.check()); err != nil {
		return err
	}
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{Cache: q.kv, Device: q.device})
	if err != nil {
		return err
	}
	if q.teacher != "" {
		if q.o.Teacher, err = eval.LoadModel(cmd.Context(), q.teacher, eval.ModelOptions{Device: q.device}); err != nil {
			return fmt.Errorf("teacher: %w", err)
		}
	}
	figures, err := q.measure(cmd, m)
	if err != nil {
		return err
	}
	return show(cmd, q.asJSON, figures)
}

func (q *qualityFlags) measure(cmd *cobra.Command, m *eval.Model) (*eval.Quality, error) {
	d, err := eval.LoadCorpus(cmd.Context(), q.corpus, m, q.o)
	if err != nil {
		return nil, err
	}
	bar := cli.CommandProgress(cmd, q.o.Windows(d), "windows", false)
	defer bar.Done()
	q.o.Progress = bar.Add
	figures, err := eval.MeasureQuality(cmd.Context(), m, d, q.o)
	return figures, windowError(err)
}
