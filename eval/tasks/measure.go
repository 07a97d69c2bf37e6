package tasks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"gqa/eval"
)

// Options control [Measure]. The zero value scores all items without examples.
type Options struct {
	Fewshot   int    // examples in each prompt
	Limit     int    // items, from the first on; 0: all
	Seed      uint64 // for the choice of examples
	MaxTokens int    // of a generated text; 0: as the task's format has it
	Chat      func(prompt string) (string, error)

	Start func(task string, items int) // called before items are scored; may be nil
	Step  func(items int64)            // called as they are scored; may be nil
	Each  func(Detail)                 // called with each item once a task has been measured; may be nil
}

// Detail is what a model has made of an item.
type Detail struct {
	Task       string    `json:"task"`
	Item       int       `json:"item"`                  // number of the item in the task, from 1 on
	Likelihood []float64 `json:"likelihoods,omitempty"` // log-probabilities of the choices, in nats
	Answer     *int      `json:"answer,omitempty"`      // index of the right choice
	Text       *string   `json:"text,omitempty"`        // that was generated
}

// Row is one figure.
type Row struct {
	Task    string  `json:"task"`
	Metric  string  `json:"metric"`
	Value   float64 `json:"value"`
	Stderr  float64 `json:"stderr"` // of the mean over items; 0 if there is only one
	N       int     `json:"n"`      // items
	Fewshot int     `json:"fewshot"`

	Figure eval.Figure `json:"-"` // with the scores of the items, if the figure is their mean
}

// Results are the figures of some tasks.
type Results struct {
	Tasks []Row `json:"tasks"`
}

// Figures returns the figures by name: the task's, and the metric's after an underscore.
func (r Results) Figures() map[string]eval.Figure {
	all := map[string]eval.Figure{}
	for _, row := range r.Tasks {
		all[row.Task+"_"+row.Metric] = row.Figure
	}
	return all
}

// Print writes the figures as a table.
func (r Results) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "task\tmetric\tvalue\tstderr\titems\texamples")
	for _, row := range r.Tasks {
		fmt.Fprintf(t, "%s\t%s\t%.4f\t%.4f\t%d\t%d\n", row.Task, row.Metric, row.Value, row.Stderr, row.N, row.Fewshot)
	}
	return t.Flush()
}

// MeasureAll measures tasks one after the other.
func MeasureAll(ctx context.Context, m *eval.Model, all []*Task, o Options) (r Results, err error) {
	if len(all) == 0 {
		return r, nil
	}
	e, err := newEncoder(m, o.Chat)
	if err != nil {
		return r, err
	}
	for _, t := range all {
		rows, err := e.measure(ctx, t, o)
		if err != nil {
			return r, fmt.Errorf("task %s: %w", t.Name, err)
		}
		r.Tasks = append(r.Tasks, rows...)
	}
	return r, nil
}

// answer is what a model has made of an item.
type answer struct {
	likelihoods []eval.Likelihood // of the choices
	text        string            // that was generated
}

// Measure scores a model on a task. Each metric of each group of items is a row.
func Measure(ctx context.Context, m *eval.Model, t *Task, o Options) ([]Row, error) {
	e, err := newEncoder(m, o.Chat)
	if err != nil {
		return nil, err
	}
	return e.measure(ctx, t, o)
}

func (e *encoder) measure(ctx context.Context, t *Task, o Options) ([]Row, error) {
	e.truncated, e.apart = 0, 0
	items, err := t.items(e, o.Limit)
	if err != nil {
		return nil, err
	}
	heads, err := t.prompts(items, o.Fewshot, o.Seed)
	if err != nil {
		return nil, err
	}
	if o.Start != nil {
		o.Start(t.Name, len(items))
	}
	answers := e.choose
	if t.Kind == Generate {
		answers = e.write
	}
	got, err := answers(ctx, t, items, heads, o)
	if err != nil {
		return nil, err
	}
	e.warn(t.Name)
	for i, a := range got {
		if o.Each != nil {
			o.Each(t.detail(i, items[i], a))
		}
	}
	rows := t.rows(items, got, o.Fewshot)
	id := identity(items, heads, o.Chat != nil)
	for i := range rows {
		rows[i].Figure.Items = id
	}
	return rows, nil
}

// identity identifies items by all that a model is asked about them.
func identity(items []Item, heads []string, chat bool) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(struct { // a hash takes everything
		Chat  bool
		Heads []string
		Items []Item
	}{chat, heads, items})
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (t *Task) detail(i int, it Item, a answer) Detail {
	d := Detail{Task: t.Name, Item: i + 1}
	if t.Kind == Generate {
		d.Text = &a.text
		return d
	}
	d.Answer = &it.Answer
	for _, l := range a.likelihoods {
		d.Likelihood = append(d.Likelihood, l.LogP)
	}
	return d
}

// items returns the items to score.
func (t *Task) items(e *encoder, limit int) (all []Item, err error) {
	all = t.Items
	if t.build != nil {
		if all, err = t.build(e); err != nil {
			return nil, err
		}
	}
	if limit == 0 {
		return all, nil
	}
	var first []Item
	taken := map[string]int{}
	for _, it := range all {
		if taken[it.Group]++; taken[it.Group] <= limit {
			first = append(first, it)
		}
	}
	return first, nil
}

// warn says what could not be read as it is.
func (e *encoder) warn(task string) {
	if e.truncated > 0 {
		slog.Warn("texts are longer than what the model reads, and were cut off", "task", task, "texts", e.truncated, "tokens", e.limit)
	}
	if e.apart > 0 {
		slog.Warn("choices that form one token with the end of their context were encoded apart", "task", task, "choices", e.apart)
	}
}

// choose scores the choices of items.
func (e *encoder) choose(ctx context.Context, _ *Task, items []Item, heads []string, o Options) ([]answer, error) {
	var queries []eval.Query
	var of []int // items, by query
	for i, it := range items {
		for _, part := range e.apartByContext(it) {
			q, err := e.query(part, heads[i])
			if err != nil {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
			queries, of = append(queries, q), append(of, i)
		}
	}
	mask, _ := e.tok.ID("[MASK]")
	if m := e.model.Arch; !m.Causal && (mask == 0 || int(mask) >= m.Vocab) {
		return nil, errors.New("the model's tokenizer has no [MASK] token, or the model has no row for it")
	}
	all, err := eval.Likelihoods(ctx, e.model, queries, eval.LikelihoodOptions{Mask: mask, Progress: o.step(len(items), len(queries))})
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(items))
	for i, likelihoods := range all {
		answers[of[i]].likelihoods = append(answers[of[i]].likelihoods, likelihoods...)
	}
	return answers, nil
}

// step returns what is called with a number of queries, of which there may be several for each item.
func (o Options) step(items, queries int) func(queries int64) {
	answered := 0
	return func(n int64) {
		before := answered * items / queries
		if answered += int(n); o.Step != nil {
			o.Step(int64(answered*items/queries - before))
		}
	}
}

// rows returns the figures, by group of items.
func (t *Task) rows(items []Item, answers []answer, fewshot int) (rows []Row) {
	var groups []string
	members := map[string][]int{}
	for i, it := range items {
		if members[it.Group] == nil {
			groups = append(groups, it.Group)
		}
		members[it.Group] = append(members[it.Group], i)
	}
	for _, g := range groups {
		var its []Item
		var got []answer
		for _, i := range members[g] {
			its, got = append(its, items[i]), append(got, answers[i])
		}
		name := t.Name
		if g != "" {
			name += "_" + g
		}
		for _, metric := range t.Metrics {
			f := metrics[metric].figure(t.Kind, its, got)
			plain, _, _ := strings.Cut(metric, ":")
			rows = append(rows, Row{name, plain, f.Value, f.Stderr, f.N, fewshot, f})
		}
	}
	return rows
}
