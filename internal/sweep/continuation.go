package sweep

import (
	"context"
	"strings"

	"gqa/eval"
)

// Lengths of the text that all models of a report continue, and of what they write, in tokens.
const (
	promptTokens   = 48
	continueTokens = 48
)

// continuation returns the beginning of a corpus, and the most likely tokens after it by a model, both as text. They are empty if the
// corpus is not text, or if the model does not continue text.
func continuation(ctx context.Context, m *eval.Model, d *eval.Corpus) (prompt, text string, err error) {
	n := min(promptTokens, len(d.IDs))
	room := min(continueTokens, eval.Room(m.Arch, n, continueTokens))
	if d.Tokenizer == nil || !m.Arch.Causal || m.Arch.EncoderLayers > 0 || n == 0 || room < 1 {
		return "", "", nil
	}
	if prompt, err = d.Tokenizer.Decode(d.IDs[:n]); err != nil {
		return "", "", err
	}
	o := eval.GenerateOptions{MaxTokens: room, Stop: -1}
	if end, ok := d.Tokenizer.EOS(); ok {
		o.Stop = end
	}
	ids := append([]int32(nil), d.IDs[:n]...)
	err = eval.Generate(ctx, m, d.IDs[:n], o, func(id int32) error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return "", "", err
	}
	all, err := d.Tokenizer.Decode(ids) // together, since tokens may look different on their own
	return valid(prompt), valid(all[min(len(prompt), len(all)):]), err
}

// valid replaces bytes that are not text, such as half a character at the end.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
