package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/data"
	"gqa/internal/limits"
	"gqa/internal/tokenizer"
)

// continuation is what gqa-eval generate --json prints.
type continuation struct {
	Prompt    string  `json:"prompt,omitempty"`
	Text      string  `json:"text,omitempty"`
	PromptIDs []int32 `json:"prompt_ids"`
	IDs       []int32 `json:"ids"`
}

func newGenerate() *cobra.Command {
	var prompt string
	var promptIDs []int32
	var asJSON, ignoreEnd bool
	var o eval.GenerateOptions
	cmd := &cobra.Command{
		Use:   "generate MODEL --prompt TEXT",
		Short: "Generate text",
		Long: `Generate text that continues a prompt. The encoder of an encoder-decoder model (T5) reads the prompt; the decoder
starts with the model's start token, and the prompt is not printed.`,
		Args: cli.Args("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case prompt != "" && promptIDs != nil:
				return cli.Usagef("give --prompt or --prompt-ids, not both")
			case prompt == "" && promptIDs == nil:
				return cli.Usagef("--prompt is missing: the text to continue, or - to read it from standard input; --prompt-ids for a model without a tokenizer")
			}
			if prompt == "-" {
				in, err := readPrompt(cmd.Context(), cmd.InOrStdin())
				if err != nil {
					return err
				}
				prompt = in
			}
			if promptIDs != nil {
				return generateIDs(cmd, args[0], promptIDs, o, asJSON)
			}
			return generate(cmd, args[0], prompt, o, ignoreEnd, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&prompt, "prompt", "", "prompt text (-: read it from standard input)")
	f.Int32SliceVar(&promptIDs, "prompt-ids", nil, "prompt as token ids, such as 5,17,3; needs no tokenizer, prints ids and ignores the end-of-text token")
	cli.NumberVar(f, &o.MaxTokens, "max-tokens", 128, 1, limits.Tokens, "maximum number of tokens to generate (the default is reduced if the model has fewer positions)")
	cli.NumberVar(f, &o.Temperature, "temperature", 0, 0, 1000, "sampling temperature (0: always choose the most probable token)")
	cli.NumberVar(f, &o.TopK, "top-k", 0, 0, limits.Count, "sample only from the K most probable tokens (0: from all)")
	f.Uint64Var(&o.Seed, "seed", 0, "random seed")
	f.BoolVar(&ignoreEnd, "ignore-eos", false, "continue after the end-of-text token")
	f.BoolVar(&asJSON, "json", false, "print text and ids as JSON")
	return cmd
}

// maxPrompt is the most bytes of standard input that are a prompt: far more tokens than any model has positions.
const maxPrompt = 16 << 20

func readPrompt(ctx context.Context, r io.Reader) (string, error) {
	in, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxPrompt+1)) })
	if err == nil && len(in) > maxPrompt {
		err = fmt.Errorf("--prompt -: standard input has more than %d bytes, the limit for a prompt", maxPrompt)
	}
	return string(in), err
}

// interruptible returns what f does, or ctx's error as soon as ctx is done. It leaves f running then, until the process ends.
func interruptible[T any](ctx context.Context, f func() (T, error)) (value T, err error) {
	done := make(chan struct{})
	var got T
	var failed error
	go func() {
		defer close(done)
		got, failed = f()
	}()
	select {
	case <-done:
		return got, failed
	case <-ctx.Done():
		return value, ctx.Err()
	}
}

func generate(cmd *cobra.Command, path, prompt string, o eval.GenerateOptions, ignoreEnd, asJSON bool) error {
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{})
	if err != nil {
		return err
	}
	tok, err := data.LoadTokenizer(m.Dir, m.Arch.Vocab)
	if err != nil {
		return err
	}
	o.Stop = -1
	if end, ok := tok.EOS(); ok && !ignoreEnd {
		o.Stop = end
	}
	promptIDs, err := interruptible(cmd.Context(), func() ([]int32, error) { return tok.Encode(prompt) })
	if err == nil {
		err = data.CheckIDs(tok, promptIDs, m.Arch.Vocab)
	}
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("max-tokens") {
		o.MaxTokens = max(1, eval.Room(m.Arch, len(promptIDs), o.MaxTokens))
	}
	out := &typewriter{tok: tok, w: cmd.OutOrStdout()}
	if m.Arch.EncoderLayers == 0 { // else the text is an answer, no continuation
		decoded, err := tok.Decode(promptIDs)
		if err != nil {
			return err
		}
		out.prompt, out.ids, out.start = prompt, slices.Clone(promptIDs), len(decoded)
	}
	begin, from := len(out.prompt), len(out.ids)
	if asJSON {
		out.w = io.Discard
	}
	if err := generateBy(cmd.Context(), m, promptIDs, o, out.emit); err != nil {
		return err
	}
	all, err := out.text()
	if err != nil {
		return err
	}
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), continuation{prompt, all[begin:], promptIDs, out.ids[from:]})
	}
	return out.print(all + "\n")
}

// generateIDs continues token ids: what a parity check with another implementation wants.
func generateIDs(cmd *cobra.Command, path string, promptIDs []int32, o eval.GenerateOptions, asJSON bool) error {
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{})
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("max-tokens") {
		o.MaxTokens = max(1, eval.Room(m.Arch, len(promptIDs), o.MaxTokens))
	}
	o.Stop = -1
	var ids []int32
	emit := func(id int32) error {
		ids = append(ids, id)
		if asJSON {
			return nil
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), id)
		return err
	}
	if err := generateBy(cmd.Context(), m, promptIDs, o, emit); err != nil || !asJSON {
		return err
	}
	return cli.PrintJSON(cmd.OutOrStdout(), continuation{PromptIDs: promptIDs, IDs: ids})
}

// generateBy is [eval.Generate] with advice about flags.
func generateBy(ctx context.Context, m *eval.Model, prompt []int32, o eval.GenerateOptions, emit func(id int32) error) error {
	err := eval.Generate(ctx, m, prompt, o, emit)
	if errors.As(err, new(limits.MemoryError)) {
		err = advice.Add(err, "set a smaller --max-tokens")
	}
	return err
}

// typewriter prints a text as its tokens come.
type typewriter struct {
	tok    *tokenizer.Tokenizer
	w      io.Writer
	prompt string
	ids    []int32 // the prompt's and those that came
	start  int     // where the continuation begins in what all ids decode to
	done   int     // bytes printed
}

// text is the prompt and what the tokens after it add: decoded together, as the first may look different on its own.
func (t *typewriter) text() (string, error) {
	all, err := t.tok.Decode(t.ids)
	return t.prompt + all[min(t.start, len(all)):], err
}

func (t *typewriter) emit(id int32) error {
	t.ids = append(t.ids, id)
	all, err := t.text()
	if err != nil || incomplete(all) {
		return err
	}
	return t.print(all)
}

// print writes what a text adds to what stands there.
func (t *typewriter) print(all string) error {
	_, err := io.WriteString(t.w, all[min(t.done, len(all)):])
	t.done = len(all)
	return err
}

// incomplete says that a text ends in the replacement of a rune whose bytes have not all come.
func incomplete(s string) bool {
	const replacement = "\uFFFD"
	return len(s) >= len(replacement) && s[len(s)-len(replacement):] == replacement
}

func newKV() *cobra.Command {
	var shape string
	var o eval.KVOptions
	var memoryGiB float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "kv [SHAPE]",
		Short: "Show the KV-cache size of published model shapes",
		Args:  cli.Args("[SHAPE]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && shape != "":
				return cli.Usagef("give SHAPE or --shape, not both")
			case len(args) == 1:
				shape = args[0]
			}
			o.Memory = int64(memoryGiB * (1 << 30))
			rows, err := kvRows(shape, o)
			if err != nil {
				return cli.Usagef("%w", err)
			}
			if asJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), rows)
			}
			return eval.WriteKVTable(cmd.OutOrStdout(), rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&shape, "shape", "", "name of one shape (default: all)")
	cli.NumberVar(f, &o.Context, "context", 0, 0, limits.Tokens, "context length (0: the model's own)")
	cli.NumberVar(f, &o.Batch, "batch", 1, 1, limits.Count, "batch size")
	cli.NumberVar(f, &o.KVBytes, "kv-bytes", 2, 1, 16, "bytes per element of the cache")
	cli.NumberVar(f, &o.WeightBytes, "weight-bytes", 2, 1, 16, "bytes per weight")
	cli.NumberVar(f, &memoryGiB, "memory", 0, 0, 1<<30, "memory in GiB for weights and cache; adds the largest batch that fits")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}

func kvRows(name string, o eval.KVOptions) ([]eval.KVRow, error) {
	shapes, err := eval.Shapes()
	if name != "" {
		var s eval.Shape
		s, err = eval.ShapeByName(name)
		shapes = []eval.Shape{s}
	}
	if err != nil {
		return nil, err
	}
	var all []eval.KVRow
	for _, s := range shapes {
		rows, err := eval.KVRows(s, o)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}
