package tasks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gqa/configs"
	"gqa/eval"
	"gqa/internal/data"
	"gqa/internal/tokenizer"
)

// encoder turns prompts and answers into what a model reads.
type encoder struct {
	tok    *tokenizer.Tokenizer
	model  *eval.Model
	chat   func(prompt string) (string, error) // applies the chat template; nil: none
	before []int32                             // tokens that the tokenizer adds before a text
	after  []int32                             // … and behind it
	first  int32                               // token that precedes a text which nothing precedes
	limit  int                                 // tokens that the model reads

	truncated, apart int // texts that were truncated; choices that were encoded apart
}

func newEncoder(m *eval.Model, chat func(string) (string, error)) (*encoder, error) {
	tok, err := data.LoadTokenizer(m.Dir, m.Arch.Vocab)
	if err != nil {
		return nil, err
	}
	e := &encoder{tok: tok, model: m, chat: chat, limit: limitOf(m.Arch)}
	plain, err := tok.EncodePlain("a")
	if err != nil {
		return nil, err
	}
	whole, err := tok.Encode("a")
	if err != nil {
		return nil, err
	}
	for i := range len(whole) - len(plain) + 1 {
		if slices.Equal(whole[i:i+len(plain)], plain) {
			e.before, e.after = whole[:i], whole[i+len(plain):]
		}
	}
	switch eos, ok := tok.EOS(); {
	case len(e.before) > 0:
		e.first = e.before[0]
	case ok:
		e.first = eos
	default:
		e.first = plain[0]
	}
	return e, nil
}

// unbounded is the number of tokens that a model reads of a text if its positions do not end, unless it was trained on more.
const unbounded = 2048

// limitOf returns the number of tokens that a model reads: its context; more if that is T5's, whose positions are relative.
func limitOf(a *configs.Arch) int {
	if a.MaxPositions() == 0 && a.EncoderLayers > 0 || a.Context == 0 {
		return max(a.Context, unbounded)
	}
	return eval.Fit(a, a.Context)
}

// text returns the tokens of a text with those that the tokenizer adds before it, unless the text begins with them or a chat template has made
// it.
func (e *encoder) text(s string) ([]int32, error) {
	ids, err := e.tok.EncodePlain(s)
	if err == nil {
		err = data.CheckIDs(e.tok, ids, e.model.Arch.Vocab)
	}
	if len(e.before) == 0 || e.chat != nil || len(ids) > 0 && ids[0] == e.before[0] {
		return ids, err
	}
	return slices.Concat(e.before, ids), err
}

// apartByContext returns the item or, if its choices have contexts of their own and an encoder reads these, one item for each choice.
func (e *encoder) apartByContext(it Item) (parts []Item) {
	if e.model.Arch.EncoderLayers == 0 || it.Contexts == nil {
		return []Item{it}
	}
	for i, context := range it.Contexts {
		parts = append(parts, Item{Context: context, Delimiter: it.Delimiter, Choices: it.Choices[i : i+1]})
	}
	return parts
}

// query returns what the model reads to score the choices of an item, whose prompt begins with head.
func (e *encoder) query(it Item, head string) (q eval.Query, err error) {
	for i, choice := range it.Choices {
		context, delimiter := head+it.context(i), it.Delimiter
		if e.chat != nil {
			if context, err = e.chat(context); err != nil {
				return q, err
			}
			delimiter = ""
		}
		var c eval.Continuation
		if e.model.Arch.EncoderLayers > 0 {
			c, err = e.target(delimiter + choice)
			if err == nil && i == 0 {
				q.Source, err = e.source(context, func(ids []int32, over int) []int32 { return ids[over:] })
			}
		} else {
			c, err = e.continuation(context, delimiter+choice)
		}
		if err != nil {
			return q, fmt.Errorf("choice %d: %w", i, err)
		}
		q.Continuations = append(q.Continuations, c)
	}
	return q, nil
}

// continuation returns a text after another one. Their tokens are those of both together, split where the first one's end, and white
// space at the end of the first belongs to the second.
func (e *encoder) continuation(context, next string) (c eval.Continuation, err error) {
	trimmed := strings.TrimRightFunc(context, unicode.IsSpace)
	context, next = trimmed, context[len(trimmed):]+next
	given, err := e.text(context)
	if err != nil {
		return c, err
	}
	whole, err := e.text(context + next)
	if err != nil {
		return c, err
	}
	ids := whole[min(len(given), len(whole)):]
	if context == "" {
		given, ids = []int32{e.first}, whole
		if ids[0] == e.first {
			ids = ids[1:]
		}
	}
	if len(ids) == 0 { // the end of the context and the text are one token
		e.apart++
		if ids, err = e.tok.EncodePlain(next); err != nil {
			return c, err
		}
	}
	if len(ids) == 0 {
		return c, errors.New("the tokenizer makes no token of it")
	}
	c = eval.Continuation{IDs: slices.Concat(given, ids), From: len(given)}
	return e.fit(c)
}

// fit drops tokens at the beginning that are too many for the model, and adds those at the end of what an encoder reads.
func (e *encoder) fit(c eval.Continuation) (eval.Continuation, error) {
	most, keep := e.limit+1, 0 // the last token is predicted, not read
	if !e.model.Arch.Causal {
		c.After, c.IDs = len(e.after), append(c.IDs, e.after...)
		most, keep = e.limit, len(e.before)
	}
	over := len(c.IDs) - most
	if over <= 0 {
		return c, nil
	}
	if c.From-over <= keep {
		return c, fmt.Errorf("it has %d tokens, and the model reads %d", len(c.IDs)-c.From, e.limit)
	}
	e.truncated++
	c.IDs, c.From = slices.Concat(c.IDs[:keep], c.IDs[keep+over:]), c.From-over
	return c, nil
}

// target returns what a decoder with an encoder writes.
func (e *encoder) target(text string) (c eval.Continuation, err error) {
	ids, err := e.tok.EncodePlain(text)
	if err == nil && len(ids) == 0 {
		err = errors.New("the tokenizer makes no token of it")
	}
	return eval.Continuation{IDs: slices.Concat([]int32{int32(e.model.Arch.StartToken)}, ids), From: 1}, err
}

// source returns what an encoder reads of a text. cut drops tokens that are too many.
func (e *encoder) source(text string, cut func(ids []int32, over int) []int32) ([]int32, error) {
	ids, err := e.text(text)
	if over := len(ids) + len(e.after) - e.limit; over > 0 {
		e.truncated++
		ids = cut(ids, over)
	}
	return append(ids, e.after...), err
}

// prompt returns what the model reads before it writes an answer of at most room tokens. Of a text that is too long, a decoder reads the
// end, where the question is, and an encoder the beginning, which says what to do with the text.
func (e *encoder) prompt(it Item, head string, room int) (p eval.Prompt, err error) {
	text := head + it.Context
	if e.model.Arch.EncoderLayers > 0 && it.Source != "" {
		text = head + it.Source
	}
	if e.chat != nil {
		if text, err = e.chat(text); err != nil {
			return p, err
		}
	}
	if e.model.Arch.EncoderLayers > 0 {
		p.Source, err = e.source(text, func(ids []int32, over int) []int32 { return ids[:len(ids)-over] })
		p.IDs = []int32{int32(e.model.Arch.StartToken)}
		return p, err
	}
	p.IDs, err = e.text(text)
	if over := len(p.IDs) + room - e.limit; over > 0 {
		e.truncated++
		p.IDs = p.IDs[min(over, len(p.IDs)-1):]
	}
	if len(p.IDs) == 0 {
		p.IDs = []int32{e.first}
	}
	return p, err
}
