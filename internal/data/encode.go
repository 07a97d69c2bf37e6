package data

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"gqa/internal/chat"
	"gqa/internal/tokenizer"
)

// encoder turns the parts of a corpus into tokens. It is safe for concurrent use.
type encoder struct {
	tok       *tokenizer.Tokenizer
	vocab     int                            // number of rows of the embedding; 0: not checked
	documents bool                           // mark where documents start
	template  func() (*chat.Template, error) // of the model
}

// newEncoder returns the encoder for a model folder.
func newEncoder(dir string, tok *tokenizer.Tokenizer, vocab int, documents bool) *encoder {
	return &encoder{tok, vocab, documents, sync.OnceValues(func() (*chat.Template, error) { return chat.Load(dir) })}
}

// encoded is a part as tokens.
type encoded struct {
	ids   []int32
	bytes int   // of text
	read  int64 // of the corpus on disk
	after place // where the next part begins
	bad   error // why a row cannot be used
	err   error
}

// encode starts a goroutine for each part and sends the channels that will receive its tokens, in order. The capacity of
// the channel bounds how far it runs ahead.
func (c *textCorpus) encode(ctx context.Context, e *encoder, from place) <-chan chan encoded {
	results := make(chan chan encoded, 2*runtime.GOMAXPROCS(0))
	go func() {
		defer close(results)
		for part, err := range c.partsFrom(ctx, from) {
			result := make(chan encoded, 1)
			select {
			case results <- result:
			case <-ctx.Done():
				return
			}
			go func() { result <- e.part(part, err) }()
		}
	}()
	return results
}

// eachEncoded passes the parts of the corpus from a place on to f, in order, until f returns an error; errStop is then not passed on. A
// cancelled ctx is an error.
func (c *textCorpus) eachEncoded(ctx context.Context, e *encoder, from place, f func(encoded) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	results := c.encode(ctx, e, from)
	for result := range results {
		var part encoded
		select {
		case part = <-result:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := part.err
		if err == nil {
			err = f(part)
		}
		if err != nil {
			stop()
			for range results { // wait until reading has stopped and all warnings are logged
			}
			if err == errStop {
				return nil
			}
			return err
		}
	}
	return ctx.Err()
}

// part returns the tokens of a part, with the end-of-text token after a document's last part. err is the error from reading the part.
func (e *encoder) part(p part, err error) encoded {
	out := encoded{bytes: len(p.Text), read: p.read, after: p.after, bad: p.bad, err: err}
	if err != nil || p.bad != nil {
		return out
	}
	if p.chat != nil {
		out.ids, out.bad, out.err = e.conversation(p.chat)
	} else {
		out.ids, out.err = e.text(p)
	}
	if out.err == nil && e.vocab > 0 {
		out.err = CheckIDs(e.tok, out.ids, e.vocab)
	}
	if e.documents && !p.Resumes && len(out.ids) > 0 {
		out.ids[0] |= starts
	}
	return out
}

func (e *encoder) text(p part) ([]int32, error) {
	encode := e.tok.EncodePlain
	if p.Resumes {
		encode = e.tok.EncodeRest
	}
	ids, err := encode(p.Text)
	if eos, ok := e.tok.EOS(); ok && !p.Goes {
		ids = append(ids, eos)
	}
	return ids, err
}

// conversation returns the tokens of a conversation, those that the assistant does not say unlearned. bad is what makes this one
// unusable.
func (e *encoder) conversation(c *conversation) (ids []int32, bad, err error) {
	template, err := e.template()
	if errors.Is(err, chat.ErrNone) && c.plain {
		ids, err = e.pair(c)
		return ids, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the corpus has conversations: %w", err)
	}
	text, spans, bad := template.Conversation(c.messages, c.given, c.tools)
	if bad != nil {
		return nil, bad, nil
	}
	if ids, err = e.tok.EncodePlain(text); err != nil {
		return nil, nil, err
	}
	ends, err := e.ends(text, ids)
	if err != nil {
		return nil, nil, err
	}
	from := 0
	for i, to := range ends {
		said := slices.ContainsFunc(spans, func(s chat.Span) bool { return from < s.To && to > s.From && from < to })
		if !said {
			ids[i] |= unlearned
		}
		from = to
	}
	return ids, nil, nil
}

// pair returns the tokens of a prompt, unlearned, and of its completion with the end-of-text token, where there is no template.
func (e *encoder) pair(c *conversation) ([]int32, error) {
	text := c.prompt + c.completion
	ids, err := e.tok.EncodePlain(text)
	if err != nil {
		return nil, err
	}
	ends, err := e.ends(text, ids)
	for i := range ends {
		if ends[i] <= len(c.prompt) {
			ids[i] |= unlearned
		}
	}
	if eos, ok := e.tok.EOS(); ok {
		ids = append(ids, eos)
	}
	return ids, err
}

// ends returns where each of a text's tokens ends in it, in bytes. A tokenizer may change a text before it is split; then ends compares
// the tokens with those of the text's beginnings.
func (e *encoder) ends(text string, ids []int32) ([]int, error) {
	ends, at := make([]int, len(ids)), 0
	for i, id := range ids {
		token, err := e.tok.TokenBytes(id)
		if err != nil {
			return nil, err
		}
		if token == nil {
			token = []byte(e.tok.Token(id))
		}
		n, ok := match(text[at:], string(token))
		if !ok {
			return e.endsBySearch(text, ids)
		}
		at += n
		ends[i] = at
	}
	return ends, nil
}

// match returns how many bytes of a text, at its beginning, a token stands for. Tokenizers may put a space before a text, and special
// tokens may stand for the white space around them.
func match(text, token string) (n int, ok bool) {
	if strings.HasPrefix(text, token) {
		return len(token), true
	}
	if rest, ok := strings.CutPrefix(token, " "); ok && strings.HasPrefix(text, rest) {
		return len(rest), true
	}
	bare := strings.TrimLeftFunc(text, unicode.IsSpace)
	return len(text) - len(bare) + len(token), strings.HasPrefix(bare, token) && token != ""
}

// endsBySearch finds ends by bisection: as many tokens end before a place as the tokens of the text up to there share with the whole's.
func (e *encoder) endsBySearch(text string, ids []int32) ([]int, error) {
	ends, from := make([]int, len(ids)), 0
	shared := func(to int) (int, error) {
		some, err := e.tok.EncodePlain(text[:to])
		n := 0
		for n < len(some) && n < len(ids) && some[n] == ids[n] {
			n++
		}
		return n, err
	}
	for i := range ids {
		to := len(text)
		for from < to {
			mid := (from + to) / 2
			n, err := shared(mid)
			if err != nil {
				return nil, err
			}
			if n > i {
				to = mid
			} else {
				from = mid + 1
			}
		}
		ends[i] = from
	}
	return ends, nil
}
