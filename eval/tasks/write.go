package tasks

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"gqa/eval"
)

// write generates an answer to each item.
func (e *encoder) write(ctx context.Context, t *Task, items []Item, heads []string, o Options) ([]answer, error) {
	room := cmp.Or(o.MaxTokens, t.maxTokens)
	if e.model.Arch.EncoderLayers == 0 {
		room = max(1, min(room, e.limit/2))
	}
	prompts := make([]eval.Prompt, len(items))
	for i, it := range items {
		var err error
		if prompts[i], err = e.prompt(it, heads[i], room); err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	w := writer{encoder: e, stop: t.stop, texts: make([]string, len(items))}
	if e.model.Arch.EncoderLayers > 0 || e.chat != nil {
		w.stop = nil // such a model ends its answer itself
	}
	var err error
	if w.ends, err = eval.EndTokens(e.model, e.tok); err != nil {
		return nil, err
	}
	_, err = eval.Continue(ctx, e.model, prompts, eval.ContinueOptions{MaxTokens: room, Done: w.done, Progress: o.Step})
	if err = cmp.Or(err, w.err); err != nil {
		return nil, err
	}
	answers := make([]answer, len(items))
	for i, text := range w.texts {
		answers[i].text = strings.TrimSpace(text)
	}
	return answers, nil
}

// writer turns generated tokens into texts.
type writer struct {
	*encoder
	ends  []int32
	stop  []string
	texts []string
	err   error
}

// done updates a text, and reports whether it has ended.
func (w *writer) done(i int, ids []int32) bool {
	n := len(ids)
	if slices.Contains(w.ends, ids[n-1]) {
		return true
	}
	text, err := w.tok.Decode(ids)
	if err != nil {
		w.err = err
		return true
	}
	ended := false
	for _, stop := range w.stop {
		if before, _, found := strings.Cut(text, stop); found {
			text, ended = before, true
		}
	}
	w.texts[i] = text
	return ended
}
