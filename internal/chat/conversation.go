package chat

import (
	"errors"
	"fmt"
	"strings"
)

// Marks stand in a template's result where a generation block begins and ends. Unicode reserves them for such internal use.
const (
	beginMark = "\uFDD0"
	endMark   = "\uFDD1"
)

// Span is a range of bytes [From,To) of a text.
type Span struct{ From, To int }

// Conversation returns the text of a conversation and what the assistant says in it: what the template's generation blocks write or,
// without any, for each message of the assistant what is between the text that invites it and the text up to it. The first given
// messages do not count. A message is an object with role and content; tools may be nil.
func (t *Template) Conversation(messages []any, given int, tools any) (text string, spans []Span, err error) {
	for _, m := range messages {
		if content, _ := m.(map[string]any)["content"].(string); strings.ContainsAny(content, beginMark+endMark) {
			return "", nil, fmt.Errorf("a message has the character %+q or %+q, which Unicode reserves", beginMark, endMark)
		}
	}
	text, err = t.render(messages, tools, false)
	if err != nil {
		return "", nil, err
	}
	from := 0
	if given > 0 {
		if from, err = t.invitation(text, messages[:given], tools); err != nil {
			return "", nil, err
		}
	}
	if t.marked {
		text, spans = unmark(text)
	} else if spans, err = t.spans(text, messages, tools); err != nil {
		return "", nil, err
	}
	said := spans[:0]
	for _, s := range spans {
		if s.From = max(s.From, from); s.From < s.To {
			said = append(said, s)
		}
	}
	return text, said, nil
}

// unmark removes the marks, and returns what was between them.
func unmark(text string) (plain string, spans []Span) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, beginMark)
		b.WriteString(before)
		if !ok {
			return b.String(), spans
		}
		inside, after, _ := strings.Cut(rest, endMark)
		spans = append(spans, Span{b.Len(), b.Len() + len(inside)})
		b.WriteString(inside)
		text = after
	}
}

var errNoPrefix = errors.New("chat template: the text of the first messages is not how the text of all begins, so it is not known which part " +
	"the assistant says; mark it in the template with {% generation %}")

// invitation returns the length of the text that invites an answer to the first messages of a conversation with that text.
func (t *Template) invitation(text string, first []any, tools any) (int, error) {
	invites, err := t.render(first, tools, true)
	if err != nil {
		return 0, err
	}
	text, _ = unmark(text)
	if invites, _ = unmark(invites); !strings.HasPrefix(text, invites) {
		return 0, fmt.Errorf("%s: %w", t.path, errNoPrefix)
	}
	return len(invites), nil
}

// spans returns what the assistant says in a text without marks.
func (t *Template) spans(text string, messages []any, tools any) (spans []Span, err error) {
	for i, m := range messages {
		if m.(map[string]any)["role"] != "assistant" {
			continue
		}
		from, err := t.invitation(text, messages[:i], tools)
		if err != nil {
			return nil, err
		}
		upTo := text
		if i+1 < len(messages) {
			if upTo, err = t.render(messages[:i+1], tools, false); err != nil {
				return nil, err
			}
		}
		if !strings.HasPrefix(text, upTo) || len(upTo) < from {
			return nil, fmt.Errorf("%s: %w", t.path, errNoPrefix)
		}
		spans = append(spans, Span{from, len(upTo)})
	}
	return spans, nil
}
