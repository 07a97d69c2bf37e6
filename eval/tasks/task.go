// Package tasks measures what models can do: choose an answer, predict a word, write an answer. Files of known benchmarks are read in
// the form in which they are published. Prompts and metrics are those of lm-evaluation-harness.
package tasks

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Kind says what a model does with an item.
type Kind uint8

// Kinds.
const (
	Choice   Kind = iota // ranks choices by their likelihood
	LastWord             // predicts the only choice
	Generate             // writes a text, which is compared with references
)

// Task is a set of items that are scored in the same way.
type Task struct {
	Name     string
	Kind     Kind
	Metrics  []string // names; see the metrics of each kind
	Items    []Item
	Examples []Item // for few-shot prompts; nil: the items themselves. An item is never its own example

	format    string // name of the format; empty if the items were not read from a file
	maxTokens int    // of a generated text
	stop      []string
	build     func(e *encoder) ([]Item, error) // makes the items for a model, if they depend on that
}

// Item is one question. Its prompt is Header, examples with their answers, and Context.
type Item struct {
	Header     string   // what is said once, before examples
	Context    string   // what precedes the answer
	Contexts   []string // contexts of the choices, if they differ; in place of Context
	Delimiter  string   // between context and answer
	Choices    []string
	Answer     int      // index of the right choice
	References []string // right texts, for Generate
	Source     string   // what an encoder-decoder reads in place of Context; empty: Context
	Section    string   // examples come from the same section
	Group      string   // items with the same group are one row of the results; its name is added to the task's
}

// context returns what precedes a choice.
func (it Item) context(choice int) string {
	if it.Contexts != nil {
		return it.Contexts[choice]
	}
	return it.Context
}

// example returns the item with its answer.
func (it Item) example() string {
	if it.References != nil {
		return it.Context + it.Delimiter + it.References[0]
	}
	return it.context(it.Answer) + it.Delimiter + it.Choices[it.Answer]
}

// Load returns the tasks with a name: a file, FORMAT=FILE, or an embedded task. See docs/tasks.md.
func Load(name string) ([]*Task, error) {
	_, missing := os.Stat(name)
	if format, path, ok := strings.Cut(name, "="); ok && missing != nil {
		t, err := read(path, format)
		return []*Task{t}, err
	}
	if made, err := embeddedTasks(name); made != nil || err != nil {
		return made, err
	}
	t, err := read(name, "")
	switch {
	case errors.Is(err, errMissing) && slices.Contains(Formats(), name):
		return nil, fmt.Errorf("%s is the format of a file, and there is no file of that name: give the file itself, as FILE or %s=FILE", name, name)
	case errors.Is(err, errMissing):
		return nil, fmt.Errorf("there is no file %s and no task of that name: want a file, FORMAT=FILE, or one of %s", name, strings.Join(Embedded(), ", "))
	}
	return []*Task{t}, err
}

// LoadAll returns the tasks with these names, in order. Each name is given once.
func LoadAll(names []string) (all []*Task, err error) {
	seen := map[string]bool{}
	for _, name := range names {
		found, err := Load(name)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			key := t.Name
			if t.build != nil {
				key = name // the length is in the names of the rows
			}
			if seen[key] {
				return nil, fmt.Errorf("two tasks are called %s: measure them one after the other", key)
			}
			seen[key] = true
			all = append(all, t)
		}
	}
	return all, nil
}

// AddExamples lets the tasks with the format of a file take their examples from it.
func AddExamples(all []*Task, name string) error {
	format, path, ok := strings.Cut(name, "=")
	if !ok {
		format, path = "", name
	}
	from, err := read(path, format)
	if err != nil {
		return err
	}
	found := false
	for _, t := range all {
		if t.format == from.format {
			t.Examples, found = from.Items, true
		}
	}
	if !found {
		return fmt.Errorf("%s has the format %s, which none of the tasks has", path, from.format)
	}
	return nil
}

// prompts returns the beginning of each item's prompt, up to its context, with k examples. Examples from another file are its first
// ones; those among the items are drawn at random, always the same.
func (t *Task) prompts(items []Item, k int, seed uint64) ([]string, error) {
	all := make([]string, len(items))
	drawn := map[string][]Item{}
	for i, it := range items {
		examples, ok := drawn[it.Section]
		if !ok && k > 0 {
			examples = t.examples(it.Section, k, seed)
			drawn[it.Section] = examples
		}
		text, n := it.Header, 0
		for _, e := range examples {
			if n < k && !same(e, it) {
				text, n = text+e.example()+"\n\n", n+1
			}
		}
		if n < k {
			return nil, fmt.Errorf("%d examples wanted, but there are only %d%s", k, n, inSection(it.Section))
		}
		all[i] = text
	}
	return all, nil
}

func inSection(s string) string {
	if s == "" {
		return ""
	}
	return " in section " + s
}

// examples returns k examples of a section and one more, which stands in if one of them is the item that is scored.
func (t *Task) examples(section string, k int, seed uint64) []Item {
	from := t.Examples
	if from == nil {
		from = t.Items
	}
	from = slices.DeleteFunc(slices.Clone(from), func(it Item) bool { return it.Section != section })
	if t.Examples == nil {
		shuffle(from, seed)
	}
	return from[:min(k+1, len(from))]
}

// same reports whether two items have the same question.
func same(a, b Item) bool {
	return a.Context == b.Context && slices.Equal(a.Contexts, b.Contexts) && slices.Equal(a.Choices, b.Choices) && slices.Equal(a.References, b.References)
}
