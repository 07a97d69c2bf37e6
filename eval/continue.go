package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gqa/internal/ops"
)

// Prompt is a text to be continued. For an encoder-decoder, Source is what the encoder reads, and IDs is the decoder's start token.
type Prompt struct{ Source, IDs []int32 }

// ContinueOptions control [Continue].
type ContinueOptions struct {
	MaxTokens int
	// Done reports whether a prompt's continuation is complete, each time that it has one more token. If it is nil, continuations have
	// MaxTokens tokens.
	Done     func(prompt int, ids []int32) bool
	Progress func(prompts int64) // called with the number of prompts as they are continued; may be nil
}

// Continue returns the continuations of prompts by the most probable tokens. Prompts of similar length are continued together.
func Continue(ctx context.Context, m *Model, prompts []Prompt, o ContinueOptions) ([][]int32, error) {
	if err := m.checkDecodes(); err != nil {
		return nil, err
	}
	for i, p := range prompts {
		if err := m.checkPrompt(p, o.MaxTokens); err != nil {
			return nil, fmt.Errorf("prompt %d: %w", i, err)
		}
	}
	m.Until(ctx)
	defer m.Until(context.Background())
	all := make([][]int32, len(prompts))
	order := make([]int, len(prompts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(prompts[a].Source), len(prompts[b].Source)), cmp.Compare(len(prompts[a].IDs), len(prompts[b].IDs)))
	})
	for len(order) > 0 {
		n := m.together(prompts, order, o.MaxTokens)
		if err := m.continueBatch(ctx, prompts, order[:n], o, all); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			o.Progress(int64(n))
		}
		order = order[n:]
	}
	return all, nil
}

func (m *Model) checkPrompt(p Prompt, tokens int) error {
	if len(p.IDs) == 0 || tokens < 1 || (m.Arch.EncoderLayers > 0) != (len(p.Source) > 0) {
		return fmt.Errorf("%d tokens, %d for an encoder, and %d to write: want at least one, and those for an encoder if the model has one", len(p.IDs), len(p.Source), tokens)
	}
	return cmp.Or(m.CheckIDs(p.IDs), m.CheckIDs(p.Source), m.CheckLength(len(p.IDs)+tokens-1), m.CheckMemory("the KV cache", m.cacheBytes(m.keeps(), 1, len(p.IDs)+tokens)),
		m.checkPass(1, max(len(p.IDs), len(p.Source))))
}

// together returns how many of the prompts, which are in order of their lengths, are continued together. Prompts longer than the first
// are read on token by token, so they must not be much longer.
func (m *Model) together(prompts []Prompt, order []int, tokens int) int {
	if m.Arch.Rope.LongInvFreq() != nil {
		return 1
	}
	most, first := m.cacheTokens(), prompts[order[0]]
	for n, i := range order {
		p := prompts[i]
		size := (n + 1) * max(len(p.IDs)+tokens, len(p.Source))
		if n > 0 && (size > most || (n+1)*max(len(first.IDs), len(p.Source)) > scoreRows ||
			len(p.IDs) > len(first.IDs)+8+tokens/4 || len(p.Source) > len(first.Source)+8+len(first.Source)/8) {
			return n
		}
	}
	return len(order)
}

// continueBatch continues some prompts. They are read together up to the length of the shortest. From there on, each step gives a
// sequence the next token of its prompt or, behind that, of its continuation.
func (m *Model) continueBatch(ctx context.Context, prompts []Prompt, which []int, o ContinueOptions, all [][]int32) error {
	shortest, longest := len(prompts[which[0]].IDs), 0
	for _, i := range which {
		shortest, longest = min(shortest, len(prompts[i].IDs)), max(longest, len(prompts[i].IDs))
	}
	cache := m.NewCache(len(which), longest+o.MaxTokens)
	defer m.Free(cache)
	if len(prompts[which[0]].Source) > 0 {
		if err := m.Encode(cache, sourcesOf(prompts, which, m.Arch.PadToken)); err != nil {
			return err
		}
	}
	var next []int32
	for _, i := range which {
		next = append(next, prompts[i].IDs[:shortest]...)
	}
	done, left, best := make([]bool, len(which)), len(which), make([]int32, len(which))
	for at := shortest; left > 0; at++ {
		logits, err := m.Step(cache, next)
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		if at == shortest && slices.ContainsFunc(m.Host(logits), notFinite) {
			return errors.New("the model's logits are not finite: its activations are too large for float32")
		}
		m.Argmax(best, logits)
		if err := m.Err(); err != nil {
			return err
		}
		next = append(next[:0], best...)
		for row, i := range which {
			switch ids := prompts[i].IDs; {
			case at < len(ids):
				next[row] = ids[at]
			case !done[row]:
				all[i] = append(all[i], best[row])
				if done[row] = len(all[i]) == o.MaxTokens || o.Done != nil && o.Done(i, all[i]); done[row] {
					left--
				}
			}
		}
	}
	return nil
}

// sourcesOf returns what the encoder reads.
func sourcesOf(prompts []Prompt, which []int, pad int) ops.Batch {
	longest := len(prompts[which[len(which)-1]].Source)
	var sources [][]int32
	var lens []int
	for _, i := range which {
		sources, lens = append(sources, padded(prompts[i].Source, longest, pad)), append(lens, len(prompts[i].Source))
	}
	b := ops.NewBatch(sources...)
	b.Lens = lens
	return b
}
