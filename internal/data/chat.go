package data

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// keys say under which keys of a record its text or its conversation is.
type keys struct {
	key string // of the text, or of a list of messages; "": the usual ones
}

func (k keys) text() string { return cmp.Or(k.key, TextKey) }

// The usual keys of conversations, the preferred ones first.
const (
	messagesKey      = "messages"
	conversationsKey = "conversations"
	promptKey        = "prompt"
	completionKey    = "completion"
	toolsKey         = "tools"
)

var chatKeys = []string{messagesKey, conversationsKey, promptKey, completionKey, toolsKey}

// chat reports whether the value of a key may be a part of a conversation.
func (k keys) chat(key string) bool {
	if k.key != "" {
		return key == k.key
	}
	return slices.Contains(chatKeys, key)
}

// columns are the columns of a table that may be read.
func (k keys) columns() []string {
	if k.key != "" {
		return []string{k.key}
	}
	return append([]string{TextKey}, chatKeys...)
}

// conversation is a record of messages. The model learns what the assistant says.
type conversation struct {
	messages []any // objects with role and content
	given    int   // number of messages at the start that the model does not learn
	tools    any
	// prompt and completion are given for a record of two texts, which are also messages.
	prompt, completion string
	plain              bool // whether they are
}

// conversation returns the conversation in the values of a record; nil if there is none.
func (k keys) conversation(values map[string]any) (c *conversation, err error) {
	c = &conversation{tools: values[toolsKey]}
	for _, key := range []string{k.key, messagesKey, conversationsKey} {
		if v, ok := values[key]; ok && v != nil {
			if c.messages, err = messages(key, v); err != nil {
				return nil, err
			}
			return c, c.check()
		}
	}
	prompt, completion := values[promptKey], values[completionKey]
	if prompt == nil || completion == nil {
		return nil, nil
	}
	c.prompt, c.plain = prompt.(string)
	if said, ok := completion.(string); ok && c.plain {
		c.completion = said
		c.messages, c.given = []any{message("user", c.prompt), message("assistant", c.completion)}, 1
		return c, nil
	}
	c.plain = false
	if c.messages, err = messages(promptKey, prompt); err != nil {
		return nil, err
	}
	said, err := messages(completionKey, completion)
	if err != nil {
		return nil, err
	}
	c.given = len(c.messages)
	c.messages = append(c.messages, said...)
	return c, c.check()
}

func message(role, content string) any { return map[string]any{"role": role, "content": content} }

// speakers are the roles of the names under "from" in a list of conversations.
var speakers = map[string]string{
	"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
	"system": "system", "tool": "tool", "observation": "tool", "function_response": "tool",
}

// messages returns the value of a key as messages with role and content.
func messages(key string, v any) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%q is not a list of messages", key)
	}
	all := make([]any, len(list))
	for i, each := range list {
		m, ok := each.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%q: message %d is not an object", key, i)
		}
		if _, ok := m["role"].(string); ok {
			all[i] = m
			continue
		}
		from, ok := m["from"].(string)
		said, text := m["value"].(string)
		role := speakers[from]
		switch {
		case !ok || !text:
			return nil, fmt.Errorf("%q: message %d has neither role and content nor from and value", key, i)
		case role == "":
			return nil, fmt.Errorf("%q: message %d is from %q, want human, gpt, system or tool", key, i, from)
		}
		all[i] = message(role, said)
	}
	return all, nil
}

var errNobodySpeaks = errors.New("the conversation has no message of the assistant, so there is nothing to learn from it")

// check returns an error if the model has nothing to learn.
func (c *conversation) check() error {
	if !slices.ContainsFunc(c.messages[c.given:], isAssistant) {
		return errNobodySpeaks
	}
	return nil
}

func isAssistant(m any) bool { return m.(map[string]any)["role"] == "assistant" }
