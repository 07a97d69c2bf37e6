package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/internal/chat"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/data"
	"gqa/internal/limits"
	"gqa/internal/tokenizer"
)

// continuation is the output of gqa-eval generate --json.
type continuation struct {
	Prompt    string  `json:"prompt,omitempty"`
	Text      string  `json:"text,omitempty"`
	PromptIDs []int32 `json:"prompt_ids"`
	IDs       []int32 `json:"ids"`
}

// generateFlags holds the values of gqa-eval generate's flags.
type generateFlags struct {
	cacheFlags
	device            string
	prompt            string
	promptIDs         []int32
	o                 eval.GenerateOptions
	ignoreEnd, asJSON bool
	chat              bool
}

const generateHelp = `Generate text that continues a prompt. The encoder of an encoder-decoder model (T5) reads the prompt; the decoder
starts with the model's start token, and the prompt is not printed.`

func newGenerate() *cobra.Command {
	var g generateFlags
	cmd := &cobra.Command{
		Use:   "generate MODEL --prompt TEXT",
		Short: "Generate text",
		Long:  generateHelp,
		Args:  cli.Args("MODEL"),
		RunE:  func(cmd *cobra.Command, args []string) error { return g.run(cmd, args[0]) },
	}
	g.add(cmd.Flags())
	return cmd
}

func (g *generateFlags) add(f *pflag.FlagSet) {
	f.StringVar(&g.prompt, "prompt", "", "prompt text (-: read it from standard input)")
	f.Int32SliceVar(&g.promptIDs, "prompt-ids", nil, "prompt as token ids, such as 5,17,3; needs no tokenizer, prints ids and ignores the end-of-text token")
	cli.NumberVar(f, &g.o.MaxTokens, "max-tokens", 128, 1, limits.Tokens, "maximum number of tokens to generate (the default is reduced if the model has fewer positions)")
	cli.NumberVar(f, &g.o.Temperature, "temperature", 0, 0, 1000, "sampling temperature (0: always choose the most probable token)")
	cli.NumberVar(f, &g.o.TopK, "top-k", 0, 0, limits.Count, "sample only from the K most probable tokens (0: from all)")
	f.Uint64Var(&g.o.Seed, "seed", 0, "random seed")
	f.BoolVar(&g.chat, "chat", false, "put the prompt into the model's chat template, and print only the answer")
	f.BoolVar(&g.ignoreEnd, "ignore-eos", false, "continue after the end-of-text token")
	g.cacheFlags.add(f)
	addDevice(f, &g.device)
	f.BoolVar(&g.asJSON, "json", false, "print text and ids as JSON")
}

func (g *generateFlags) run(cmd *cobra.Command, path string) error {
	switch {
	case g.prompt != "" && g.promptIDs != nil:
		return cli.Usagef("give --prompt or --prompt-ids, not both")
	case g.chat && g.promptIDs != nil:
		return cli.Usagef("--chat needs --prompt: ids are not put into a template")
	case g.prompt == "" && g.promptIDs == nil:
		return cli.Usagef("--prompt is missing: the text to continue, or - to read it from standard input; --prompt-ids for a model without a tokenizer")
	case g.prompt == "-":
		in, err := readPrompt(cmd.Context(), cmd.InOrStdin())
		if err != nil {
			return err
		}
		g.prompt = in
	}
	if err := g.check(); err != nil {
		return err
	}
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{Cache: g.kv, Device: g.device})
	if err != nil {
		return err
	}
	g.o.Stop = -1
	if g.promptIDs != nil {
		return g.continueIDs(cmd, m)
	}
	return g.continueText(cmd, m)
}

// maxPrompt is the maximum length in bytes of a prompt from standard input: far more tokens than any model has positions.
const maxPrompt = 16 << 20

func readPrompt(ctx context.Context, r io.Reader) (string, error) {
	in, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxPrompt+1)) })
	if err == nil && len(in) > maxPrompt {
		err = fmt.Errorf("--prompt -: standard input has more than %d bytes, the limit for a prompt", maxPrompt)
	}
	return string(in), err
}

// interruptible returns the result of f, or ctx's error as soon as ctx is done. In that case f continues to run until the
// process ends.
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

// continueText continues the prompt as text.
func (g *generateFlags) continueText(cmd *cobra.Command, m *eval.Model) error {
	tok, err := data.LoadTokenizer(m.Dir, m.Arch.Vocab)
	if err != nil {
		return err
	}
	if !g.ignoreEnd {
		if g.o.Ends, err = eval.EndTokens(m, tok); err != nil {
			return err
		}
	}
	prompt, err := g.encode(cmd.Context(), m, tok)
	if err != nil {
		return err
	}
	out, err := g.writer(cmd, m, tok, prompt)
	if err != nil {
		return err
	}
	begin, from := len(out.prompt), len(out.ids)
	if err := g.generate(cmd, m, prompt, out.emit); err != nil {
		return err
	}
	all, err := out.text()
	if err != nil {
		return err
	}
	if g.asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), continuation{g.prompt, all[begin:], prompt, out.ids[from:]})
	}
	return out.print(all + "\n")
}

// encode returns the ids of the prompt.
func (g *generateFlags) encode(ctx context.Context, m *eval.Model, tok *tokenizer.Tokenizer) ([]int32, error) {
	text, encode := g.prompt, tok.Encode
	if g.chat {
		template, err := chat.Load(m.Dir)
		if err != nil {
			return nil, err
		}
		if text, err = template.Prompt(g.prompt); err != nil {
			return nil, err
		}
		encode = tok.EncodePlain // the template has the special tokens
	}
	ids, err := interruptible(ctx, func() ([]int32, error) { return encode(text) })
	if err != nil {
		return nil, err
	}
	return ids, data.CheckIDs(tok, ids, m.Arch.Vocab)
}

// writer returns the function that prints the text: after the prompt, unless the text is an answer of an encoder-decoder or in a chat.
func (g *generateFlags) writer(cmd *cobra.Command, m *eval.Model, tok *tokenizer.Tokenizer, prompt []int32) (*typewriter, error) {
	out := &typewriter{tok: tok, w: cmd.OutOrStdout()}
	if g.asJSON {
		out.w = io.Discard
	}
	if m.Arch.EncoderLayers > 0 || g.chat {
		return out, nil
	}
	decoded, err := tok.Decode(prompt)
	out.prompt, out.ids, out.start = g.prompt, slices.Clone(prompt), len(decoded)
	return out, err
}

// continueIDs continues token ids, for comparisons with another implementation.
func (g *generateFlags) continueIDs(cmd *cobra.Command, m *eval.Model) error {
	var ids []int32
	emit := func(id int32) error {
		ids = append(ids, id)
		if g.asJSON {
			return nil
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), id)
		return err
	}
	if err := g.generate(cmd, m, g.promptIDs, emit); err != nil || !g.asJSON {
		return err
	}
	return cli.PrintJSON(cmd.OutOrStdout(), continuation{PromptIDs: g.promptIDs, IDs: ids})
}

// generate calls [eval.Generate] for the requested number of tokens or, by default, as many as there is room for.
func (g *generateFlags) generate(cmd *cobra.Command, m *eval.Model, prompt []int32, emit func(id int32) error) error {
	if !cmd.Flags().Changed("max-tokens") {
		g.o.MaxTokens = max(1, eval.Room(m.Arch, len(prompt), g.o.MaxTokens))
	}
	err := eval.Generate(cmd.Context(), m, prompt, g.o, emit)
	if errors.As(err, new(limits.MemoryError)) {
		err = advice.Add(err, "set a smaller --max-tokens")
	}
	return err
}
